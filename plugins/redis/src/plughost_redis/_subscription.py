"""Listening to a channel for as long as the backend lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

    from plughost_redis._backend import RedisBackend

logger = logging.getLogger("plughost.redis")

HEARTBEAT = 5.0
"""Seconds of silence after which the server is asked whether it still listens, and seconds it has to answer."""


async def listen(
    backend: RedisBackend, channel: str, on_message: Callable[[bytes], object], on_reset: Callable[[], object]
) -> None:
    """Hand on each message of a channel, and say when some may have been missed; never ends by itself."""
    while True:
        redis = await backend.wait_until_up()
        try:
            await _listen_once(redis, backend.timeout, channel, on_message, on_reset)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next subscription starts anew
            logger.info("plugin %r listens to %r no more, and will again: %s", backend.name, channel, error)
        await backend.pause()


async def _listen_once(
    redis: Redis,
    limit: float,
    channel: str,
    on_message: Callable[[bytes], object],
    on_reset: Callable[[], object],
) -> None:
    pubsub = redis.pubsub()
    try:
        async with asyncio.timeout(limit):
            await pubsub.subscribe(channel)
        async for message in _messages(pubsub):
            if message["type"] == "subscribe":
                _safely(on_reset)
            elif message["type"] == "message":
                _safely(on_message, message["data"])
    finally:
        with suppress(Exception):
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # the client's


async def _messages(pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
    """Whatever arrives.

    Raises:
        TimeoutError: Nothing does, not even the answer to a heartbeat.
    """
    asked = False
    while True:
        async with asyncio.timeout(2 * HEARTBEAT):  # on an error the client connects anew first, without a limit
            message = await pubsub.get_message(timeout=HEARTBEAT)
        if message is not None:
            asked = False
            yield message
        elif asked:
            raise TimeoutError("the subscription is silent")
        else:
            asked = True
            await pubsub.ping()


def _safely(callback: Callable[..., object], *arguments: Any) -> None:
    try:
        callback(*arguments)
    except Exception:
        logger.exception("%r failed; the subscription goes on", callback)
