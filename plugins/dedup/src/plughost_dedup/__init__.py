"""Single flight for Plughost: concurrent identical calls share one execution, in memory or on Redis."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

from plughost_dedup._flight import SingleFlight, copied
from plughost_dedup._key import IDEMPOTENCY_KEY, call_key

__all__ = ["IDEMPOTENCY_KEY", "DedupPlugin", "SingleFlight", "call_key", "copied"]


class DedupPlugin(MCPPlugin[PluginConfig]):
    """Single flight for Plughost: concurrent identical calls share one execution, in memory or on Redis."""
