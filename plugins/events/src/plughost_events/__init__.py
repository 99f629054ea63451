"""Event sourcing for Plughost: an append-only, hash-chained store of calls, refusals and changes, on SQLite or PostgreSQL."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["EventsPlugin"]


class EventsPlugin(MCPPlugin[PluginConfig]):
    """Event sourcing for Plughost: an append-only, hash-chained store of calls, refusals and changes, on SQLite or PostgreSQL."""
