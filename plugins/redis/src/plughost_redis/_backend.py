"""`RedisBackend`: a server that is asked within a time limit, and left alone while it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from plughost import EventType, HealthCheck, HostEvent, PlughostError

from plughost_redis._metrics import meter
from plughost_redis._script import Script
from plughost_redis._subscription import listen
from plughost_redis._url import StoreURL

if TYPE_CHECKING:
    from plughost import Host
    from redis.asyncio import Redis

T = TypeVar("T")
logger = logging.getLogger("plughost.redis")

TIMEOUT = 0.1
"""Seconds that one question may take, unless the URL says otherwise; connecting included."""
PROBE_TIMEOUT = 1.0
"""Seconds that a probe may take: nobody waits for it, and a first TLS connection is slow."""
PROBE_EVERY = (0.1, 2.0)
"""Seconds from one probe to the next: first, and after doubling at most."""
PATIENCE = 10
"""Time limits that a question may take at most while the server answers others: then it is busy, not away."""
LATE = 0.01
"""A timer that comes so many seconds late shows that the loop stood still, not the server."""


class BackendUnavailable(PlughostError):  # noqa: N818 - a state, not a mistake
    """Raised when the server did not answer in time or refused the connection, and at once until it is back."""


class RedisBackend:
    """A Redis or Valkey server, for one plugin instance.

    `name` is the instance's; `prefix` starts each key (`key()`). Nothing connects before `start()`.

    The breaker: one question without an answer, and the server counts as away. Whoever waits for it is told at once,
    who asks from then on is told without waiting, and a probe in the background asks until it answers. So a server that
    hangs costs a call at most one time limit, and calls that come later nothing.

    Each question is a task of its own, finished within the time limit even if its asker is cancelled: an answer that
    nobody reads would be taken for the next one's. After a failure the whole pool is thrown away.
    """

    def __init__(self, url: StoreURL, *, name: str, host: Host, prefix: str) -> None:
        if url.is_memory:
            raise ValueError(f"{name!r} has {url}, where there is no server; keep the state in memory instead")
        self.url = url
        self.name = name
        self.prefix = f"{prefix}:{name}"
        self.timeout = url.timeout or TIMEOUT
        self.up = False
        """Whether the server answered when it was last asked."""
        self.reason = "it was not started"
        """Why it is not up."""
        self._clock = host.clock
        self._publish = host.publish
        self._back = asyncio.Event()
        self._asking: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._client: Redis | None = None
        self._away: tuple[type[Exception], ...] = ()
        self.heard = 0.0
        """When the server last answered, by the clock of the event loop."""

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect. A server that is away does not fail the start: it is looked for in the background."""
        from plughost_redis import _client  # noqa: PLC0415 - imports `redis`, which a memory store does without

        self._connect, self._away = _client.connect, _client.AWAY
        self._client = self._connect(self.url)
        self._came(announce=False)
        meter.watch(self)
        with suppress(BackendUnavailable):
            await self.run(lambda redis: redis.ping(), timeout=PROBE_TIMEOUT)

    async def aclose(self) -> None:
        """Stop listening and looking, let what was asked end, and close all connections."""
        self.up, self.reason = False, "it is closed"
        meter.unwatch(self)
        for task in self._background:
            task.cancel()
        with anyio.CancelScope(shield=True):
            if pending := self._background | self._asking:
                await asyncio.wait(pending)
            await self._drop()

    # -- asking -------------------------------------------------------------------------------------------------------

    async def run(self, work: Callable[[Redis], Awaitable[T]], *, timeout: float | None = None) -> T:  # noqa: ASYNC109 - the limit is this class's business
        """What `work(client)` gives, within the time limit.

        Raises:
            BackendUnavailable: The server is away.
            redis.exceptions.ResponseError: It refused the command.
        """
        if not self.up:
            raise self._unavailable()
        return await asyncio.shield(asyncio.create_task(self._ask(work, timeout or self.timeout)))

    def script(self, source: str) -> Script:
        """A Lua script, to be called with keys and arguments."""
        return Script(self, source)

    def key(self, *parts: str) -> str:
        """A key of this instance."""
        return ":".join((self.prefix, *parts))

    def subscribe(self, channel: str, on_message: Callable[[bytes], object], on_reset: Callable[[], object]) -> None:
        """Call `on_message` with each message of a channel, until the backend is closed.

        `on_reset` is called whenever messages may have been missed: after each subscription, the first one too.
        """
        self._spawn(listen(self, channel, on_message, on_reset))

    def health_check(self) -> HealthCheck:
        """A check that degrades the host while the server is away."""

        async def check() -> None:
            await self.run(lambda redis: redis.ping())

        return HealthCheck("redis", check)

    async def _ask(self, work: Callable[[Redis], Awaitable[T]], limit: float) -> T:
        task = asyncio.current_task()
        assert task is not None
        client = self._client
        if client is None or not self.up:  # lost before this began; to cancel it then would have cancelled its asker
            raise self._unavailable()
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        deadline = _Deadline(self, task, limit)
        try:
            found = await work(client)
        except asyncio.CancelledError:
            self._doubt(client, TimeoutError(f"it did not answer within {limit * 1000:.0f} ms"))
            raise self._unavailable() from None
        except self._away as error:
            self._doubt(client, error)
            raise self._unavailable() from error
        finally:
            deadline.cancel()
        self.heard = deadline.now()
        return found

    def _unavailable(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self.url} is unavailable: {self.reason}")

    # -- the breaker --------------------------------------------------------------------------------------------------

    def _doubt(self, client: Redis, error: Exception) -> None:
        """Take the server for away, tell whoever waits for it, and start to look for it."""
        if not self.up or client is not self._client:
            return  # it is known, or was even mended since
        self.up, self.reason = False, str(error) or type(error).__name__
        self._back.clear()
        for task in self._asking - {asyncio.current_task()}:
            task.cancel()
        logger.warning("plugin %r lost %s: %s", self.name, self.url, self.reason)
        self._publish(HostEvent(EventType.BACKEND_DOWN, self.name, {"url": str(self.url), "reason": self.reason}))
        self._spawn(self._look())

    async def _look(self) -> None:
        """Ask until the server answers, from new connections: the old ones may lead to what is no more."""
        wait, longest = PROBE_EVERY
        if self._asking:
            await asyncio.wait(self._asking)  # they were told, and give their connections back
        while True:
            await self._drop()
            self._client = self._connect(self.url)
            try:
                async with asyncio.timeout(PROBE_TIMEOUT):
                    await self._client.ping()
            except Exception as error:  # noqa: BLE001 - whatever it was, it is no answer
                self.reason = str(error) or f"it did not answer within {PROBE_TIMEOUT * 1000:.0f} ms"
            else:
                return self._came()
            await self._clock.sleep(wait)
            wait = min(wait * 2, longest)

    def _came(self, *, announce: bool = True) -> None:
        self.up = True
        self._back.set()
        if announce:
            logger.info("plugin %r has %s back", self.name, self.url)
            self._publish(HostEvent(EventType.BACKEND_UP, self.name, {"url": str(self.url)}))

    async def wait_until_up(self) -> Redis:
        """The client, once the server is there."""
        await self._back.wait()
        assert self._client is not None
        return self._client

    async def pause(self) -> None:
        """Wait a little before something is tried again, and see whether the server is there."""
        await self._clock.sleep(PROBE_EVERY[0])
        with suppress(BackendUnavailable):
            await self.run(lambda redis: redis.ping())

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await client.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # A context of its own, or it would hold on to the call that it happened to start in.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def __repr__(self) -> str:
        return f"<RedisBackend {self.name!r} on {self.url} {'up' if self.up else 'away'}>"


class _Deadline:
    """Ends a question that has no answer in time, unless that is not the server's fault.

    Where the loop stood still, what may have arrived meanwhile is read first. Where the server answered another
    question since, it is busy, and the time starts anew; so a server that hangs still costs one time limit at most.
    """

    def __init__(self, backend: RedisBackend, task: asyncio.Task[Any], limit: float) -> None:
        self._backend = backend
        self._task = task
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._begin = self.now()
        self._forgiven = False
        self._timer = self._loop.call_at(self._begin + limit, self._due)

    def cancel(self) -> None:
        self._timer.cancel()

    def _due(self) -> None:
        now = self.now()
        heard = self._backend.heard
        if now - self._timer.when() > LATE and not self._forgiven:
            self._forgiven = True
            self._timer = self._loop.call_at(now + LATE, self._due)
        elif heard > self._begin and heard + self._limit > now and now - self._begin < PATIENCE * self._limit:
            self._timer = self._loop.call_at(heard + self._limit, self._due)
        else:
            self._task.cancel()
