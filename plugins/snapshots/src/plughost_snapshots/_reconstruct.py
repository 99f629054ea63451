"""The state of a stream: the newest snapshot and the events after it, or all events where that cannot be trusted."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plughost_events import EventStore, Reducer, Snapshot, State, schema_of

logger = logging.getLogger("plughost.snapshots")


@dataclass(frozen=True, slots=True)
class Named:
    """A reducer and the name that its snapshots have."""

    name: str
    reduce: Reducer

    @property
    def schema(self) -> int:
        """The revision of the state's shape."""
        return schema_of(self.reduce)


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The state of a stream at a version, and what it was made of."""

    stream: str
    version: int
    state: Mapping[str, Any]
    snapshot: int
    """The version of the snapshot that it began with; 0 for none."""
    events: int
    """How many events were read after that."""
    complete: bool
    """Whether nothing is missing. Events that retention took out are, unless a snapshot holds what they said."""


async def reconstruct(store: EventStore, named: Named, stream: str, *, at: int | None = None) -> Reconstruction:
    """The state of a stream, now or at a version: the same as from the first event on."""
    snapshot = await usable(store, named, stream)
    if snapshot is not None and at is not None and snapshot.version > at:
        snapshot = None
    state: State = copy.deepcopy(dict(snapshot.state)) if snapshot else {}
    begin = version = snapshot.version if snapshot else 0
    count, complete = 0, True
    async for event in store.read_stream(stream, after=begin, until=at):
        complete = complete and event.version == version + 1
        state = named.reduce(state, event)
        version = event.version
        count += 1
    if not count and version == 0:
        complete = await store.version(stream) == 0
    return Reconstruction(stream, version, state, begin, count, complete)


async def usable(store: EventStore, named: Named, stream: str) -> Snapshot | None:
    """The newest snapshot, unless it is damaged, of another schema, or of events that are not there.

    What cannot be used is dropped, and a new one takes its place. One of a newer schema stays for those who know it.
    """
    try:
        snapshot = await store.load_snapshot(named.name, stream)
    except ValueError as error:
        problem, drop = str(error), True
    else:
        if snapshot is None:
            return None
        problem, drop = _problem(snapshot, named, await store.version(stream))
        if not problem:
            return snapshot
    logger.warning("the snapshot %r of %r is ignored, and all events are read: %s", named.name, stream, problem)
    if drop:
        await store.drop_snapshots(named.name, stream)
    return None


def _problem(snapshot: Snapshot, named: Named, version: int) -> tuple[str, bool]:
    """What is wrong with a snapshot, and whether it is of no use to anybody."""
    if snapshot.schema > named.schema:
        return f"its schema {snapshot.schema} is newer than {named.schema}, which this host knows", False
    if snapshot.schema < named.schema:
        return f"its schema {snapshot.schema} is older than {named.schema}", True
    if snapshot.version > version:
        return f"it is of version {snapshot.version}, and the stream is at {version}", True
    return "", False
