"""The testing kit of Plughost: what a plugin author needs to prove a plugin right.

    from plughost_testing import PluginContract

    class TestGreeting(PluginContract):
        plugin_class = GreetingPlugin
        config = {"text": "hello"}

With pytest its fixtures are there without an import. Names are imported when they are first used, since this package is
imported by every pytest that has it installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plughost_testing._clock import DeadlockError, VirtualClock, VirtualLoop, run

_HOME = {
    "_clock": "DeadlockError VirtualClock VirtualLoop run",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "DeadlockError",
    "VirtualClock",
    "VirtualLoop",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'plughost_testing' has no attribute {name!r}")
    value = getattr(import_module(f"plughost_testing.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
