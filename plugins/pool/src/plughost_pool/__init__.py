"""Resource pools for plugins of Plughost: bounded, fair, validated, with limits on idle time and lifetime."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["PoolPlugin"]


class PoolPlugin(MCPPlugin[PluginConfig]):
    """Resource pools for plugins of Plughost: bounded, fair, validated, with limits on idle time and lifetime."""
