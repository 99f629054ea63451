"""What replicas tell each other: that a breaker opened and for how long, and that its probes were well.

Each decides by its own window, and no call waits for any of this. When something opens, a task writes down until when,
by the server's clock, and tells the others; who starts or lost the thread reads what is written. With the server away
each replica goes on alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from weakref import WeakSet

from plughost_redis import BackendUnavailable, RedisBackend

from plughost_circuit_breaker._board import Board, Key
from plughost_circuit_breaker._breaker import Breaker, Mode, State

logger = logging.getLogger("plughost.circuit_breaker")

TELL = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local wait = tonumber(ARGV[2])
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  if tonumber(stored[i + 1]) <= now then redis.call('HDEL', KEYS[1], stored[i]) end
end
if wait > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', now + wait))
  redis.call('PEXPIRE', KEYS[1], math.max(wait, redis.call('PTTL', KEYS[1])))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""
"""Write down until when a breaker is open (milliseconds; `0`: no longer), drop what is over, and tell the others."""

ASK = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local found = redis.call('HGETALL', KEYS[1])
for i = 2, #found, 2 do found[i] = tonumber(found[i]) - now end
return found
"""
"""Which breakers are open, each with the milliseconds that are left."""


class Replicas:
    """The line to the other replicas."""

    def __init__(self, backend: RedisBackend, board: Board, monotonic: Callable[[], float]) -> None:
        self.backend = backend
        self._board = board
        self._monotonic = monotonic
        self._origin = secrets.token_hex(8)
        self._stored = backend.key("open")
        self._channel = backend.key("news")
        self._tell = backend.script(TELL)
        self._ask = backend.script(ASK)
        self._open: WeakSet[Breaker] = WeakSet()  # open here, by its own doing or another's
        self._untold: dict[Key, float] = {}
        self._missed = False
        self._following = False
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.backend.start()
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        self.backend.subscribe(self._channel, self._heard, self._lost_the_thread)

    async def aclose(self) -> None:
        """Stop to talk and to listen; what is open stays written down."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.backend.aclose()

    def moved(self, breaker: Breaker, now: float) -> None:
        """A breaker changed its state: what others should know is told, soon."""
        key = breaker.key
        if breaker.state is State.OPEN and breaker.mode is not Mode.FORCED_OPEN:
            self._open.add(breaker)
            if not self._following:
                self._say(key, breaker.until - now)
        elif breaker.state in {State.RECOVERING, State.CLOSED} and breaker in self._open:
            self._open.discard(breaker)
            if breaker.mode is not Mode.DISABLED:
                self._say(key, 0.0)

    def _say(self, key: Key, wait: float) -> None:
        self._untold[key] = wait
        self._work.set()

    def _lost_the_thread(self) -> None:
        self._missed = True
        self._work.set()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._say_it()
                if self._missed:
                    await self._catch_up()
            except BackendUnavailable:
                # What is open `_catch_up` tells anew; what closed must be said before it reads, or it would open again.
                self._untold = {key: wait for key, wait in self._untold.items() if not wait}
            except Exception:
                logger.exception("replicas were not told of a breaker")

    async def _say_it(self) -> None:
        while self._untold:
            key, wait = next(iter(self._untold.items()))
            text = json.dumps({"from": self._origin, "key": key, "wait": wait})
            await self._tell([self._stored], [json.dumps(key), math.ceil(wait * 1000), self._channel, text])
            if self._untold.get(key) == wait:
                del self._untold[key]

    async def _catch_up(self) -> None:
        """Follow what is written down, and tell what is open here."""
        self._missed = False
        found = await self._ask([self._stored])
        now = self._monotonic()
        for field, left in zip(found[::2], found[1::2], strict=True):
            provider, tool = json.loads(field)
            self._follow((provider, tool), left / 1000, now)
        for breaker in self._board:
            if breaker in self._open and breaker.state is State.OPEN and now < breaker.until:
                self._say(breaker.key, breaker.until - now)

    def _heard(self, message: bytes) -> None:
        news = json.loads(message)
        if news["from"] != self._origin:
            provider, tool = news["key"]
            self._follow((provider, tool), news["wait"], self._monotonic())

    def _follow(self, key: Key, wait: float, now: float) -> None:
        if not self._board.keeps(key):
            return
        breaker = self._board.find(key)
        if breaker is None and wait > 0:
            breaker = self._board.make(key, now)
        if breaker is None:
            return
        self._following = True
        try:
            if wait > 0:
                breaker.open_elsewhere(now, wait)
            else:
                breaker.closed_elsewhere(now)
        finally:
            self._following = False
