"""Pinning for Plughost: a tool that changes is quarantined until it is approved, and texts are scanned for poison."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["PinningPlugin"]


class PinningPlugin(MCPPlugin[PluginConfig]):
    """Pinning for Plughost: a tool that changes is quarantined until it is approved, and texts are scanned for poison."""
