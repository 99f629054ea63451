"""Single flight for Plughost: concurrent identical calls share one execution, in memory or on Redis."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["DedupPlugin"]


class DedupPlugin(MCPPlugin[PluginConfig]):
    """Single flight for Plughost: concurrent identical calls share one execution, in memory or on Redis."""
