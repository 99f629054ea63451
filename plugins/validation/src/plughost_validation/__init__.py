"""Validation for Plughost: arguments and results against their schemas, URIs against allow-lists, all within limits."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["ValidationPlugin"]


class ValidationPlugin(MCPPlugin[PluginConfig]):
    """Validation for Plughost: arguments and results against their schemas, URIs against allow-lists, all within limits."""
