"""A bus for Plughost: changes and events across replicas over Redis, and out to webhooks."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["BusPlugin"]


class BusPlugin(MCPPlugin[PluginConfig]):
    """A bus for Plughost: changes and events across replicas over Redis, and out to webhooks."""
