"""`Snapshots`: reducers by name, what they make of streams, and when that is kept."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from plughost import Clock, PlughostError
from plughost_events import EventStore, Reducer, Snapshot

from plughost_snapshots._reconstruct import Named, Reconstruction, reconstruct

MOST_PENDING = 10_000
"""Streams that wait for their snapshot. One that finds no room waits for its next turn."""


class Snapshots:
    """The states of streams. `host.get(Snapshots)` is the one of the plugin `snapshots`.

    snapshots = host.get(Snapshots)
    snapshots.add("totals", total, streams="order:*")
    found = await snapshots.reconstruct("order:7", "totals")
    """

    def __init__(self, store: EventStore, clock: Clock, *, every: int) -> None:
        self.every = every
        self.taken = 0
        """How many were taken."""
        self.wanted: dict[tuple[str, str], None] = {}
        """Streams and reducers whose snapshot is due."""
        self.changed: dict[str, None] = {}
        """Streams with new events since they were last looked at."""
        self._store = store
        self._clock = clock
        self._reducers: dict[str, tuple[Named, str]] = {}

    def add(self, name: str, reducer: Reducer, *, streams: str = "*") -> Callable[[], None]:
        """Let a reducer make the state of the streams that a glob names. Returns its removal.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._reducers:
            raise ValueError(f"there is a reducer {name!r} already; give it another name")
        entry = self._reducers[name] = (Named(name, reducer), streams)

        def remove() -> None:
            if self._reducers.get(name) is entry:
                del self._reducers[name]

        return remove

    @property
    def reducers(self) -> dict[str, str]:
        """Name → glob of its streams."""
        return {name: streams for name, (_, streams) in self._reducers.items()}

    async def reconstruct(self, stream: str, reducer: str = "activity", *, at: int | None = None) -> Reconstruction:
        """The state of a stream, now or at a version. If many events had to be read for it, it is kept.

        Raises:
            PlughostError: There is no such reducer.
        """
        found = await reconstruct(self._store, self._named(reducer), stream, at=at)
        if at is None and found.events >= self.every and found.complete:
            await self._keep(reducer, found)
        return found

    async def take(self, stream: str, reducer: str = "activity") -> Reconstruction:
        """Keep the state of a stream as it is now.

        Raises:
            PlughostError: There is no such reducer.
        """
        found = await reconstruct(self._store, self._named(reducer), stream)
        if found.events and found.complete:
            await self._keep(reducer, found)
        return found

    def appended(self, stream: str, before: int, now: int) -> bool:
        """Note that a stream has grown; says whether a snapshot of it is due."""
        due = now // self.every > before // self.every
        if due and len(self.wanted) < MOST_PENDING:
            self.want(stream)
        elif len(self.changed) < MOST_PENDING:
            self.changed[stream] = None
        return due

    def want(self, stream: str) -> None:
        """Make a snapshot of a stream due for each reducer that it has."""
        self.changed.pop(stream, None)
        for name, (_, streams) in self._reducers.items():
            if fnmatchcase(stream, streams):
                self.wanted[stream, name] = None

    def _named(self, reducer: str) -> Named:
        if reducer not in self._reducers:
            raise PlughostError(f"there is no reducer {reducer!r}; there are {', '.join(self._reducers) or 'none'}")
        return self._reducers[reducer][0]

    async def _keep(self, reducer: str, found: Reconstruction) -> None:
        tenant = found.stream.removeprefix("tenant:") if found.stream.startswith("tenant:") else None
        schema, now = self._named(reducer).schema, self._clock.time()
        await self._store.save_snapshot(
            Snapshot(reducer, found.stream, found.version, schema, now, found.state, tenant=tenant)
        )
        self.taken += 1

    def __repr__(self) -> str:
        return f"<Snapshots of {len(self._reducers)} reducers, every {self.every} events>"
