"""Tenants for Plughost: each call belongs to one, and sees nothing of another."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["TenancyPlugin"]


class TenancyPlugin(MCPPlugin[PluginConfig]):
    """Tenants for Plughost: each call belongs to one, and sees nothing of another."""
