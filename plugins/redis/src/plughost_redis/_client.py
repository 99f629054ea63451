"""The one module that imports `redis`."""

from __future__ import annotations

import logging

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from plughost_redis._url import StoreURL

__all__ = ["AWAY", "NoScriptError", "connect"]

logging.getLogger(
    "push_response"
)  # if this logger is new, the client's first subscription gives it a handler to stderr

CONNECTIONS = 16
AWAY = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError)
"""What says that the server is not there, or no longer the one to write to; any other error is the asker's own."""


def connect(url: StoreURL) -> Redis:
    """A client that connects when it is asked something. It neither retries nor limits time: its backend does."""
    pool = BlockingConnectionPool.from_url(
        url.for_client(),
        max_connections=CONNECTIONS,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return Redis.from_pool(pool)
