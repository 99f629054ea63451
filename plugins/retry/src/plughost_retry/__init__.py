"""Retries for Plughost: backoff with jitter, a retry budget, and hedged calls, for what may run twice."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["RetryPlugin"]


class RetryPlugin(MCPPlugin[PluginConfig]):
    """Retries for Plughost: backoff with jitter, a retry budget, and hedged calls, for what may run twice."""
