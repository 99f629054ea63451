"""Authorization for Plughost: roles, permissions and rules, deny by default, lists filtered by the same decision."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["RBACPlugin"]


class RBACPlugin(MCPPlugin[PluginConfig]):
    """Authorization for Plughost: roles, permissions and rules, deny by default, lists filtered by the same decision."""
