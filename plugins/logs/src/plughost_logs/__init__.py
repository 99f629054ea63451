"""Structured logs for Plughost: Elastic Common Schema, correlated, redacted, never blocking."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["LogsPlugin"]


class LogsPlugin(MCPPlugin[PluginConfig]):
    """Structured logs for Plughost: Elastic Common Schema, correlated, redacted, never blocking."""
