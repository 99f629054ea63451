"""Health for Plughost: /livez, /readyz, /healthz and `plughost health`, from the checks of all plugins and providers.

    [plugins.health]

Names are imported when they are first used, so that `plughost health` imports neither `mcp` nor the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plughost_health._plugin import HealthConfig, HealthPlugin
    from plughost_health._state import Finding, State, judge

_HOME = {
    "Finding": "_state",
    "HealthConfig": "_plugin",
    "HealthPlugin": "_plugin",
    "State": "_state",
    "judge": "_state",
}

__all__ = ["Finding", "HealthConfig", "HealthPlugin", "State", "judge"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'plughost_health' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - for the first use of a name alone

    value = getattr(import_module(f"plughost_health.{_HOME[name]}"), name)
    globals()[name] = value
    return value
