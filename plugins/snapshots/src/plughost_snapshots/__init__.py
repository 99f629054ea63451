"""Snapshots for Plughost: the state of an aggregate without a full replay."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["SnapshotsPlugin"]


class SnapshotsPlugin(MCPPlugin[PluginConfig]):
    """Snapshots for Plughost: the state of an aggregate without a full replay."""
