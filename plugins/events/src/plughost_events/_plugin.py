"""The plugin: records calls and what happens to the host, and shares the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    HealthCheck,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginConfig,
    Refusal,
    Result,
    SecretBox,
    hookimpl,
)
from pydantic import Field

from plughost_events import _metrics
from plughost_events._config import EventsConfig
from plughost_events._errors import StoreError, StoreUnavailable
from plughost_events._event import NewEvent, Prepared
from plughost_events._export import as_json
from plughost_events._record import STREAM_OF, describe, name_of_stream
from plughost_events._store import DatabaseStore, EventStore

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.events")

HANDSHAKE = frozenset({"initialize", "server/discover", "ping"})
"""Methods that are never refused: they change nothing, and clients give up where they fail."""
FIXED = ("url", "chain_key", "durability", "queue", "gather", "timeout", "poll")
"""Keys that need a new store."""
PRUNE_EVERY = 3600.0
"""Seconds from one look for events that are too old to the next."""
RETRY_AFTER_MS = 1000


class ReadParameters(PluginConfig):
    """Which events to show."""

    stream: str | None = None
    """A stream; all events without one."""
    last: int = Field(default=20, ge=1, le=500)
    """How many of the newest."""


class StreamsParameters(PluginConfig):
    """Which streams to show."""

    prefix: str = ""
    """What their names begin with."""
    limit: int = Field(default=100, ge=1, le=500)
    """How many at most."""


class EventsPlugin(MCPPlugin[EventsConfig]):
    """Stores an event for each call, each refusal and each change of the host; no argument or result is in it (G6)."""

    provides = (EventStore,)
    backends = ("sqlite", "postgresql")
    store: DatabaseStore

    async def register(self, host: Host) -> None:
        config = self.config
        self._host = host
        self._clock = host.clock
        self._folder = folder = host.config.folder
        self._lost = 0
        self._bind(config)
        self.store = DatabaseStore(
            config.database(folder),
            None if config.url.is_memory else config.database(folder),
            host.clock,
            lambda: host.get(SecretBox, None),  # type: ignore[type-abstract]  # shared under its protocol
            self,
            limit=config.queue,
            gather=0.0 if config.durability == "sync" else config.gather,
            patience=config.timeout,
            poll=config.poll,
        )
        await self.store.start()
        host.provide(EventStore, self.store)  # type: ignore[type-abstract]  # as above
        self._retention = asyncio.create_task(self._prune_for_ever(), name=f"{self.name} retention")
        _metrics.meter.watch(self)

    async def unregister(self) -> None:
        """Write what waits, within `timeout`."""
        _metrics.meter.unwatch(self)
        self._retention.cancel()
        with suppress(asyncio.CancelledError):
            await self._retention
        if unwritten := await self.store.aclose(self.config.timeout):
            self._lose(unwritten)
            logger.error("%s: %d events are lost: %s", self.name, unwritten, self.store.writer.reason)

    async def reconfigure(self, config: EventsConfig) -> bool:
        """Take what needs no other store in place."""
        if any(getattr(config, key) != getattr(self.config, key) for key in FIXED):
            return False
        self.config = config
        self._bind(config)
        return True

    def _bind(self, config: EventsConfig) -> None:
        self._ignored = frozenset(config.ignore)
        self._closed = config.closed
        self._sync = config.durability == "sync"
        self._host_events = config.host_events
        self._timeout = config.timeout
        self._stream_of = STREAM_OF[config.aggregate]
        self._named = {"arguments": config.arguments, "results": config.results}

    # -- calls --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.record, Phase.OBSERVE, after=("tracing", "metrics", "logs"))]

    async def record(self, call: Call, call_next: CallNext) -> Result:
        """Store how the call ended. It takes its place in the queue before it begins, so that what ran is recorded."""
        if not await self._admits(call):
            return await call_next(call)
        begin = self._clock.monotonic()
        try:
            result = await call_next(call)
        except asyncio.CancelledError as error:
            if event := self._event(call, None, error, begin):
                self.store.writer.post(*event)
            raise
        except BaseException as error:
            if event := self._event(call, None, error, begin):
                await self._keep(*event)
            raise
        event = self._event(call, result, None, begin)
        if event and not await self._keep(*event) and self._closed and call.method not in HANDSHAKE:
            raise self._refusal("The call ran, and its answer is withheld: it could not be recorded in time")
        return result

    async def _admits(self, call: Call) -> bool:
        """Whether the call is to be recorded, and has a place in the queue.

        Raises:
            Refusal: It cannot be recorded, and `fail_mode` is closed.
        """
        writer = self.store.writer
        try:
            if call.method in self._ignored:
                return False
            if not (self._closed and writer.reason) and writer.reserve():
                return True
            if not writer.reason:  # the database is slower than the calls
                with suppress(TimeoutError, StoreUnavailable):
                    async with asyncio.timeout(self._timeout):
                        await writer.reserved(1)
                    return True
            if self._closed and call.method not in HANDSHAKE:
                raise self._refusal("The call was refused: it could not be recorded")
            self._fail_open(call.method, writer.reason or "the queue is full")
        except Exception as error:
            if self._closed or isinstance(error, Refusal):
                raise
            self._fail_open("", f"{type(error).__name__}")
        return False

    def _event(
        self, call: Call, result: Result | None, error: BaseException | None, begin: float
    ) -> tuple[str, Prepared] | None:
        """The stream and the event of a call that is over; `None` if it cannot be made, and calls may pass then."""
        try:
            seconds = self._clock.monotonic() - begin
            type_, data = describe(call, result, error, seconds, **self._named)
            stream = name_of_stream(self._stream_of(call, self._host.generation.catalog.lists))
            new = NewEvent(type_, data, tenant=call.principal.tenant if call.principal else None)
            return stream, self.store.prepared(stream, new)
        except Exception:
            self.store.writer.release()
            if self._closed and error is None:
                raise
            logger.exception("%s: the event of a call is lost", self.name)
            self._fail_open(call.method, "the event could not be made")
            return None

    async def _keep(self, stream: str, event: Prepared) -> bool:
        """Have an event written; with `sync`, wait for it. Says whether it is on the disk, as far as anybody waits."""
        writer = self.store.writer
        if not self._sync:
            writer.post(stream, event)
            return True
        try:
            await writer.stored(writer.submit(stream, (event,)))
        except StoreUnavailable as error:
            if not self._closed:
                self._publish_fail_open(event.type, str(error))
            return False
        return True

    def _refusal(self, problem: str) -> Refusal:
        reason = self.store.writer.reason
        return Refusal(
            ErrorCode.UPSTREAM_UNAVAILABLE,
            f"{problem}. The event store is away or too slow; try again later, or tell the operator",
            details={"plugin": self.name, "state": "away" if reason else "slow"},
            retry_after_ms=RETRY_AFTER_MS,
        )

    def _fail_open(self, method: str, reason: str) -> None:
        """Count a call that passes without being recorded; the log tells of the first of a row."""
        if not self._lost:
            logger.warning("%s: calls pass without being recorded: %s", self.name, reason)
        self._lose(1)
        self._publish_fail_open(method, reason)

    def _publish_fail_open(self, what: str, reason: str) -> None:
        self._host.publish(HostEvent(EventType.FAIL_OPEN, self.name, {"method": what, "reason": reason}))

    def _lose(self, count: int) -> None:
        self._lost += count
        _metrics.lost.add(count, {"plughost.plugin": self.name})

    # -- the host -----------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        own = event.subject == self.name and event.type == EventType.FAIL_OPEN  # one for each event that is lost
        if own or not self._host_events:
            return
        if not self.store.writer.reserve():
            self._lose(1)
            return
        try:
            new = NewEvent(str(event.type), {"subject": event.subject, "details": dict(event.details)})
            stream = name_of_stream(f"host:{self._host.settings.name}")
            self.store.writer.post(stream, self.store.prepared(stream, new))
        except BaseException:
            self.store.writer.release()
            raise

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("store", self.check)]

    async def check(self) -> None:
        """Raises while events cannot be stored, or too many wait."""
        writer = self.store.writer
        if writer.reason:
            raise StoreUnavailable(f"{self.config.url} is away: {writer.reason}; {writer.waiting} events wait")
        if writer.taken > 0.9 * writer.limit:
            raise StoreError(f"{writer.taken} of {writer.limit} places in the queue are taken")

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="The store: its head, what waits, what was lost."),
            Operation("read", self.read, parameters=ReadParameters, summary="The newest events, of one stream or all."),
            Operation("streams", self.streams, parameters=StreamsParameters, summary="Streams and their versions."),
            Operation("verify", self.verify, summary="Check the hash chain."),
            Operation("prune", self.prune, changes=True, summary="Take out what is older than `keep`, now."),
        ]

    async def show(self, _: object) -> dict[str, Any]:
        """The store: its head, what waits, what was lost."""
        writer = self.store.writer
        found: dict[str, Any] = {"url": str(self.config.url), "up": not writer.reason, "waiting": writer.waiting}
        if writer.reason:
            return {**found, "lost": self._lost, "reason": writer.reason}
        return {**found, "lost": self._lost, "head": str(await self.store.head())}

    async def read(self, wanted: ReadParameters) -> list[dict[str, Any]]:
        """The newest events, oldest first."""
        if wanted.stream is None:
            after = max((await self.store.head()).position - wanted.last, 0)
            return [as_json(event) async for event in self.store.read(after=after)]
        after = max(await self.store.version(wanted.stream) - wanted.last, 0)
        return [as_json(event) async for event in self.store.read_stream(wanted.stream, after=after)]

    async def streams(self, wanted: StreamsParameters) -> dict[str, int]:
        """Streams and their versions."""
        return dict(await self.store.streams(wanted.prefix, limit=wanted.limit))

    async def verify(self, _: object) -> dict[str, Any]:
        """Check the hash chain."""
        found = await self.store.verify()
        return {"ok": not found.faults, "head": str(found.head), "faults": [str(fault) for fault in found.faults]}

    async def prune(self, _: object) -> dict[str, int]:
        """Take out what is older than `keep`."""
        keep, archive = self.config.keep, self.config.archive
        if keep is None:
            return {"pruned": 0}
        folder: Path | None = self._folder / archive if archive is not None else None
        return {"pruned": await self.store.prune(self._clock.time() - keep, folder)}

    async def _prune_for_ever(self) -> None:
        while True:
            try:
                await self.prune(None)
            except Exception:
                logger.exception("%s: old events stay for now", self.name)
            await self._clock.sleep(PRUNE_EVERY)

    # -- what the store tells -----------------------------------------------------------------------------------------

    def written(self, count: int) -> None:
        _metrics.stored.add(count, {"plughost.plugin": self.name})

    def down(self, reason: str) -> None:
        logger.warning("%s: events cannot be stored in %s: %s", self.name, self.config.url, reason)
        self._host.publish(
            HostEvent(EventType.BACKEND_DOWN, self.name, {"url": str(self.config.url), "reason": reason})
        )

    def up(self) -> None:
        logger.info("%s: events are stored again; %d were lost", self.name, self._lost)
        self._host.publish(HostEvent(EventType.BACKEND_UP, self.name, {"url": str(self.config.url)}))
