"""Redis and Valkey for plugins: time limits, a breaker, scripts, subscriptions, and what is left when it is away.

    from plughost_redis import BackendUnavailable, RedisBackend, StoreURL

`redis` itself is imported when a backend starts, so that a plugin that stays with `memory://` does not pay for it.
"""

from __future__ import annotations

from plughost_redis._backend import BackendUnavailable, RedisBackend
from plughost_redis._script import Script
from plughost_redis._url import StoreURL

__all__ = ["BackendUnavailable", "RedisBackend", "Script", "StoreURL"]
