"""A two-level cache for Plughost: memory, and Redis or SQLite behind it, that never mixes callers."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["CachePlugin"]


class CachePlugin(MCPPlugin[PluginConfig]):
    """A two-level cache for Plughost: memory, and Redis or SQLite behind it, that never mixes callers."""
