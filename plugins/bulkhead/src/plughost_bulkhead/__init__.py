"""Bulkheads for Plughost: concurrent calls limited per provider and tenant, with a fair, bounded queue."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["BulkheadPlugin"]


class BulkheadPlugin(MCPPlugin[PluginConfig]):
    """Bulkheads for Plughost: concurrent calls limited per provider and tenant, with a fair, bounded queue."""
