"""Graceful shutdown for Plughost: not ready, then refuse, then drain, each within its limit."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["ShutdownPlugin"]


class ShutdownPlugin(MCPPlugin[PluginConfig]):
    """Graceful shutdown for Plughost: not ready, then refuse, then drain, each within its limit."""
