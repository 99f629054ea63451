"""Time limits for Plughost: per attempt and in all, and progress extends neither."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["TimeoutPlugin"]


class TimeoutPlugin(MCPPlugin[PluginConfig]):
    """Time limits for Plughost: per attempt and in all, and progress extends neither."""
