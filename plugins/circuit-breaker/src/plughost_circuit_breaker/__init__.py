"""Circuit breakers for Plughost: a provider or tool that fails too often, or is too slow, is left alone for a while."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["CircuitBreakerPlugin"]


class CircuitBreakerPlugin(MCPPlugin[PluginConfig]):
    """Circuit breakers for Plughost: a provider or tool that fails too often, or is too slow, is left alone for a while."""
