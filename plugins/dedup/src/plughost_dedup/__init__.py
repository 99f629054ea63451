"""Single flight for Plughost: concurrent identical calls share one execution, in memory or on Redis.

    from plughost_dedup import SingleFlight, call_key

For other plugins too: `call_key` says which calls may share an answer, `SingleFlight` runs what several wait for once,
`flight_call` is the call that it makes, on a `SharedLine`.
"""

from __future__ import annotations

from plughost_dedup._flight import ForOne, SingleFlight, copied
from plughost_dedup._key import IDEMPOTENCY_KEY, call_key
from plughost_dedup._line import SharedLine, flight_call
from plughost_dedup._plugin import DedupConfig, DedupPlugin

__all__ = [
    "IDEMPOTENCY_KEY",
    "DedupConfig",
    "DedupPlugin",
    "ForOne",
    "SharedLine",
    "SingleFlight",
    "call_key",
    "copied",
    "flight_call",
]
