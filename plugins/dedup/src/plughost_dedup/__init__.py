"""Single flight for Plughost: concurrent identical calls share one execution, in memory or on Redis.

    from plughost_dedup import SingleFlight, call_key

Both are for other plugins too: `call_key` says which calls may share an answer, `SingleFlight` runs what several wait
for once.
"""

from __future__ import annotations

from plughost_dedup._flight import ForOne, SingleFlight, copied
from plughost_dedup._key import IDEMPOTENCY_KEY, call_key
from plughost_dedup._plugin import DedupConfig, DedupPlugin

__all__ = ["IDEMPOTENCY_KEY", "DedupConfig", "DedupPlugin", "ForOne", "SingleFlight", "call_key", "copied"]
