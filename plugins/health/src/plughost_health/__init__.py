"""Health for Plughost: /livez, /readyz, /healthz and `plughost health`, from the checks of all plugins and providers."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["HealthPlugin"]


class HealthPlugin(MCPPlugin[PluginConfig]):
    """Health for Plughost: /livez, /readyz, /healthz and `plughost health`, from the checks of all plugins and providers."""
