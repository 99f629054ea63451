"""`EventStore`: what plugins use. One implementation, on two databases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import orjson
from plughost import Clock, SecretBox

from plughost_events._archive import write_archive
from plughost_events._chain import Anchor, Fault
from plughost_events._database import PAGE, Database, Outcome, SnapshotRow
from plughost_events._errors import StoreUnavailable
from plughost_events._event import Event, NewEvent, Prepared, Receipt, Row, checked, encoded, prepared, seal_context
from plughost_events._upcast import Upcasters
from plughost_events._worker import Worker
from plughost_events._writer import Writer

logger = logging.getLogger("plughost.events")

PRUNE = 2000
"""Events that are archived and deleted in one transaction: writers wait for it."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of the chain: from where to where it was checked, and all that is wrong with it."""

    anchor: Anchor
    head: Anchor
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a stream at a version, folded by the reducer `name`; `schema` is that of the state's shape."""

    name: str
    stream: str
    version: int
    schema: int
    time: float
    state: Mapping[str, Any]
    tenant: str | None = None
    """Whose data it is; of a snapshot that was loaded, `None`."""


Watcher = Callable[[str, int, int], None]
"""Told of a stream, the version it was at, and the version that it is at now."""


class StoreListener(Protocol):
    """Who is told what becomes of a store."""

    def written(self, count: int) -> None: ...

    def down(self, reason: str) -> None: ...

    def up(self) -> None: ...


@runtime_checkable
class EventStore(Protocol):
    """An append-only store of events in streams. `host.get(EventStore)` is the one of the plugin `events`.

    Each stream counts its events from 1 (their versions), and the store counts all events from 1 (their positions),
    both without a gap, in the order in which they were committed.
    """

    @property
    def upcasters(self) -> Upcasters: ...

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: int | None = None
    ) -> Sequence[Receipt]:
        """Store events, all or none, and wait until they are on the disk. `expected_version` 0: the stream is new.

        Appending an event with an id that is stored already stores nothing, and tells where it is.

        Raises:
            VersionConflict: Somebody else appended to the stream; nothing was stored.
            StoreUnavailable: It is not known whether they are stored, or will be. Append again, with the same ids.
            ValueError: A name or an event cannot be stored.
        """
        ...

    async def version(self, stream: str) -> int:
        """The version of a stream's newest event; 0 if it has none."""
        ...

    async def head(self) -> Anchor:
        """Position and hash of the newest event."""
        ...

    async def streams(self, prefix: str = "", *, limit: int = PAGE) -> Mapping[str, int]:
        """Streams whose names begin so, with their versions."""
        ...

    def read(self, *, after: int = 0, until: int | None = None) -> AsyncIterator[Event]:
        """All events behind one position, up to another or to the end."""
        ...

    def read_stream(self, stream: str, *, after: int = 0, until: int | None = None) -> AsyncIterator[Event]:
        """A stream's events behind one version, up to another or to the end."""
        ...

    def subscribe(self, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """All events behind a position, and those to come, each once, in order. Never ends by itself."""
        ...

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of each stream that this host has appended to, at once; returns what ends it."""
        ...

    async def verify(self, anchor: Anchor | None = None) -> Verified:
        """Check the whole chain; `anchor` is a head that was noted elsewhere, and must still be in it."""
        ...

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a state beside the events, unless a newer one of the same name and stream is there."""
        ...

    async def load_snapshot(self, name: str, stream: str) -> Snapshot | None:
        """The newest state that was kept.

        Raises:
            ValueError: It is damaged, or cannot be opened.
        """
        ...

    async def snapshots(self, name: str, *, limit: int = PAGE) -> Mapping[str, int]:
        """Streams of which a state was kept, with the versions."""
        ...

    async def drop_snapshots(self, name: str, stream: str | None = None) -> int:
        """Forget the state of a stream, or of all. Returns how many."""
        ...


class DatabaseStore:
    """An `EventStore` on a database: one thread writes, another reads."""

    def __init__(
        self,
        writing: Database,
        reading: Database | None,
        clock: Clock,
        box: Callable[[], SecretBox | None],
        listener: StoreListener,
        *,
        limit: int,
        gather: float,
        patience: float,
        poll: float,
    ) -> None:
        self.upcasters = Upcasters()
        self._clock = clock
        self._box = box
        self._listener = listener
        self._poll = poll
        self._patience = patience
        self._writing = Worker(writing, "plughost-events-writer")
        self._reading = Worker(reading, "plughost-events-reader") if reading is not None else self._writing
        self._news: set[asyncio.Event] = set()
        self._watchers: list[Watcher] = []
        self.writer = Writer(self._writing, clock, self, limit=limit, gather=gather, patience=patience)

    async def start(self) -> None:
        """Open the database. One that is away does not fail the start: it is looked for.

        Raises:
            StoreError: It cannot be used as it is configured.
        """
        try:
            await self.writer.start()
        except BaseException:
            await self._close(self._patience)
            raise

    async def aclose(self, limit: float) -> int:
        """Write what waits, at most for `limit` seconds, and close everything. Returns how many events are lost."""
        lost = await self.writer.aclose(limit)
        await self._close(limit)
        return lost

    async def _close(self, limit: float) -> None:
        for worker in {self._writing, self._reading}:
            await worker.aclose(limit)

    # -- the writer's listener ----------------------------------------------------------------------------------------

    def written(self, outcomes: Sequence[Outcome]) -> None:
        for news in self._news:
            news.set()
        receipts = [receipt for outcome in outcomes if isinstance(outcome, tuple) for receipt in outcome]
        if receipts:
            self._listener.written(len(receipts))
        if self._watchers and receipts:
            first: dict[str, int] = {}
            last: dict[str, int] = {}
            for receipt in receipts:
                first.setdefault(receipt.stream, receipt.version)
                last[receipt.stream] = receipt.version
            for watcher in tuple(self._watchers):
                for stream, version in last.items():
                    _tell(watcher, stream, first[stream] - 1, version)

    def down(self, reason: str) -> None:
        self._listener.down(reason)

    def up(self) -> None:
        self._listener.up()

    # -- writing ------------------------------------------------------------------------------------------------------

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: int | None = None
    ) -> Sequence[Receipt]:
        ready = [self.prepared(checked("stream", stream), event) for event in events]
        if not ready:
            return ()
        if self.writer.reason:
            raise StoreUnavailable(self.writer.reason)
        await self.writer.reserved(len(ready))
        return await self.writer.stored(self.writer.submit(stream, ready, expected_version))

    def prepared(self, stream: str, event: NewEvent) -> Prepared:
        """The event as it will be stored.

        Raises:
            ValueError: It cannot be.
        """
        return prepared(stream, event, self._clock.time(), self._box())

    async def prune(self, before: float, archive: Path | None) -> int:
        """Delete events older than a time, at the old end; into files first, if there is a folder for them.

        Returns how many. The chain stays verifiable from where it is cut.
        """
        count = 0
        while pruned := await self._writing.run(_prune, int(before * 1e6), archive):
            count += pruned
            if pruned < PRUNE:
                break
        return count

    # -- reading ------------------------------------------------------------------------------------------------------

    async def version(self, stream: str) -> int:
        return await self._reading.run_within(self._patience, Database.version, stream)

    async def head(self) -> Anchor:
        return (await self._reading.run_within(self._patience, Database.chain)).head

    async def streams(self, prefix: str = "", *, limit: int = PAGE) -> Mapping[str, int]:
        found = await self._reading.run_within(self._patience, Database.streams, prefix, limit)
        return {stream: version for stream, version in found if stream.startswith(prefix)}

    async def find(self, id_: str) -> Event | None:
        """The event with an id."""
        row = await self._reading.run_within(self._patience, Database.by_id, id_)
        return self._events([row])[0] if row else None

    async def read(self, *, after: int = 0, until: int | None = None) -> AsyncIterator[Event]:
        while rows := await self._reading.run_within(self._patience, Database.page, after):
            for event in self._events(rows):
                if until is not None and event.position > until:
                    return
                yield event
            after = rows[-1].position

    async def read_stream(self, stream: str, *, after: int = 0, until: int | None = None) -> AsyncIterator[Event]:
        while rows := await self._reading.run_within(self._patience, Database.stream_page, stream, after):
            for event in self._events(rows):
                if until is not None and event.version > until:
                    return
                yield event
            after = rows[-1].version

    async def subscribe(self, *, after: int = 0) -> AsyncGenerator[Event, None]:
        news = asyncio.Event()
        self._news.add(news)
        try:
            while True:
                news.clear()
                async for event in self.read(after=after):
                    after = event.position
                    yield event
                with suppress(TimeoutError):  # what other hosts append is found by looking
                    await asyncio.wait_for(news.wait(), self._poll)
        finally:
            self._news.discard(news)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        self._watchers.append(watcher)

        def forget() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return forget

    async def verify(self, anchor: Anchor | None = None) -> Verified:
        chain, faults = await self._reading.run(Database.verify, anchor)
        return Verified(chain.anchor, chain.head, faults)

    def _events(self, rows: Sequence[Row]) -> list[Event]:
        box = self._box()
        return [as_event(row, box, self.upcasters) for row in rows]

    # -- snapshots ----------------------------------------------------------------------------------------------------

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        name, stream, version = checked("name", snapshot.name), snapshot.stream, snapshot.version
        data, box = encoded(snapshot.state), self._box()
        if box is not None:
            data = box.seal(data, context=seal_context(name, stream, str(version)), tenant=snapshot.tenant)
        row = (name, stream, version, snapshot.schema, int(snapshot.time * 1e6), int(box is not None), data)
        await self._writing.run(Database.save_snapshot, row)

    async def load_snapshot(self, name: str, stream: str) -> Snapshot | None:
        row = await self._reading.run_within(self._patience, Database.snapshot, name, stream)
        return _snapshot(self._reading.database, row, self._box()) if row else None

    async def snapshots(self, name: str, *, limit: int = PAGE) -> Mapping[str, int]:
        return {
            row.stream: row.version
            for row in await self._reading.run_within(self._patience, Database.snapshots, name, "", limit)
        }

    async def drop_snapshots(self, name: str, stream: str | None = None) -> int:
        return await self._writing.run(Database.drop_snapshots, name, stream)

    def __repr__(self) -> str:
        state = f"away: {self.writer.reason}" if self.writer.reason else "up"
        return f"<DatabaseStore {self._writing.database!r} {state}, {self.writer.waiting} waiting>"


def _tell(watcher: Watcher, stream: str, before: int, now: int) -> None:
    try:
        watcher(stream, before, now)
    except Exception:
        logger.exception("a watcher of the event store raised")


def as_event(row: Row, box: SecretBox | None, upcasters: Upcasters) -> Event:
    """An event as it is read; without its data if nobody can open it."""
    try:
        data = orjson.loads(_opened(row.data, row.sealed, box, seal_context(row.stream, row.id)))
    except ValueError:
        schema, data = row.schema, None
    else:
        schema, data = upcasters(row.type, row.schema, data)
    return Event(
        row.position, row.id, row.stream, row.version, row.type, schema, row.time / 1e6, data, bytes(row.hash).hex()
    )


def _snapshot(database: Database, row: SnapshotRow, box: SecretBox | None) -> Snapshot:
    if database.snapshot_hash(row[:-1]) != bytes(row.hash):
        raise ValueError("it is damaged: its hash does not fit")
    if box is not None and not row.sealed:
        raise ValueError("it is not sealed: it is older than the key, or somebody else's")
    state = orjson.loads(_opened(row.data, row.sealed, box, seal_context(row.name, row.stream, str(row.version))))
    return Snapshot(row.name, row.stream, row.version, row.schema, row.time / 1e6, state)


def _opened(data: bytes, sealed: int, box: SecretBox | None, context: bytes) -> bytes:
    """The plain bytes.

    Raises:
        ValueError: They are sealed, and there is no key for them.
    """
    if not sealed:
        return bytes(data)
    if box is None:
        raise ValueError("it is sealed; enable the encryption plugin with the key that sealed it")
    try:
        return box.unseal(bytes(data), context=context)
    except Exception as error:
        raise ValueError(f"it is sealed, and cannot be opened: {type(error).__name__}") from error


def _prune(database: Database, before: int, archive: Path | None) -> int:
    with database.transaction(database.begin):
        start = database.chain().anchor
        rows = database.prune(before, PRUNE)
        if rows and archive is not None:
            write_archive(archive, start, rows)
    return len(rows)
