"""Rate limits: sliding window, GCRA or fixed window, for each caller by himself, in memory or on Redis.

    [plugins.rate-limit]
    limit = "100/minute"

The counting is ours, after a look at `limits` and `throttled-py`. Neither takes several limits all or none, in memory
or on Redis; the asyncio memory store of `limits` walks over all keys on each hit, and that of `throttled-py` forgets
identities beyond a fixed number, so that whoever invents names gets rid of his own record; both hold an object graph of
several hundred bytes for each identity; both forbid the current Redis client. What is needed of them is little: one
integer for each identity (`_algorithms.py`), a table that forgets (`_memory.py`), a script (`_lua.py`).
"""

from __future__ import annotations

from plughost_rate_limit._config import RateLimitConfig
from plughost_rate_limit._plugin import META, RateLimitPlugin
from plughost_rate_limit._rate import Rate

__all__ = ["META", "Rate", "RateLimitConfig", "RateLimitPlugin"]
