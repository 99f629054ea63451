"""Rate limits for Plughost: sliding window, GCRA or fixed window, per caller, in memory or on Redis."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["RateLimitPlugin"]


class RateLimitPlugin(MCPPlugin[PluginConfig]):
    """Rate limits for Plughost: sliding window, GCRA or fixed window, per caller, in memory or on Redis."""
