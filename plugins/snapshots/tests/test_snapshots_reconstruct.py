"""A state from a snapshot is the state from the first event on."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from event_stores import happened, open_store, tamper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plughost import PlughostError
from plughost._shared import SystemClock
from plughost_events import Event, EventStore, NewEvent, Snapshot, State, fold
from plughost_events._store import DatabaseStore
from plughost_snapshots import Snapshots
from plughost_testing import Backend, on_backends

pytestmark = [pytest.mark.anyio, on_backends("sqlite", "postgresql")]

NAMES = itertools.count()


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[DatabaseStore]:
    async with open_store(backend.url) as store:
        yield store


def trail(state: State, event: Event) -> State:
    """Order and content of all events matter; and it changes the state that it is given."""
    state.setdefault("numbers", []).append((event.data or {})["number"])
    state["hash"] = hash((state.get("hash", 0), event.version, event.time)) % 2**31
    return state


def snapshots_of(store: EventStore, *, every: int = 10, schema: int = 1) -> Snapshots:
    def reduce(state: State, event: Event) -> State:
        return trail(state, event)

    reduce.schema = schema  # type: ignore[attr-defined]  # as a user says it
    snapshots = Snapshots(store, SystemClock(), every=every)
    snapshots.add("trail", reduce)
    return snapshots


async def replayed(store: EventStore, stream: str) -> State:
    return await fold(trail, store.read_stream(stream))


Step = tuple[str, Any]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 7)),
        st.tuples(st.just("take"), st.integers(0, 1)),
        st.tuples(st.just("reconstruct"), st.integers(0, 1)),
        st.tuples(st.just("at"), st.integers(1, 30)),
        st.tuples(st.just("damage"), st.sampled_from(["data", "version", "schema", "hash"])),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=12,
)
DAMAGE = {
    "data": ("UPDATE plughost_snapshots SET data = ? WHERE stream = ?", b"{}"),
    "version": ("UPDATE plughost_snapshots SET version = version + ? WHERE stream = ?", 3),
    "schema": ("UPDATE plughost_snapshots SET schema = schema + ? WHERE stream = ?", 1),
    "hash": ("UPDATE plughost_snapshots SET hash = ? WHERE stream = ?", b"x"),
}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, every=st.integers(1, 9))
def test_reconstruct_equals_a_full_replay(backend: Backend, steps: list[Step], every: int) -> None:
    """Whatever the policy, whenever snapshots are taken by either of two hosts, dropped or damaged."""

    async def run() -> None:
        async with open_store(backend.url) as one, open_store(backend.url) as two:
            stream = f"s:{next(NAMES)}"
            hosts = [snapshots_of(one, every=every), snapshots_of(two, every=every)]
            count = 0
            for what, value in steps:
                if what == "append":
                    await one.append(stream, [happened(count + more) for more in range(value)])
                    count += value
                elif what == "take":
                    await hosts[value].take(stream, "trail")
                elif what == "clear":
                    await one.drop_snapshots("trail", stream)
                elif what == "damage":
                    sql, parameter = DAMAGE[value]
                    tamper(backend.url, sql, parameter, stream)
                elif what == "at":
                    found = await hosts[0].reconstruct(stream, "trail", at=value)
                    expected = await fold(trail, one.read_stream(stream, until=value))
                    assert (found.state, found.version) == (expected, min(value, count))
                else:
                    found = await hosts[value].reconstruct(stream, "trail")
                    assert (found.state, found.version, found.complete) == (await replayed(one, stream), count, True)
            found = await hosts[0].reconstruct(stream, "trail")
            assert found.state == await replayed(one, stream)

    logging.disable(logging.WARNING)  # damage is told of, each time
    try:
        asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)


async def test_a_snapshot_saves_reading(store: DatabaseStore) -> None:
    """After a snapshot only the events behind it are read."""
    snapshots = snapshots_of(store)
    await store.append("s", [happened(number) for number in range(30)])
    await snapshots.take("s", "trail")
    await store.append("s", [happened(30), happened(31)])
    found = await snapshots.reconstruct("s", "trail")
    assert (found.snapshot, found.events, found.version, found.complete) == (30, 2, 32, True)
    assert found.state == await replayed(store, "s")


async def test_a_long_replay_leaves_a_snapshot(store: DatabaseStore) -> None:
    """Who had to read as many events as make a snapshot due, leaves one."""
    snapshots = snapshots_of(store, every=10)
    await store.append("s", [happened(number) for number in range(10)])
    assert (await snapshots.reconstruct("s", "trail")).events == 10
    assert (await snapshots.reconstruct("s", "trail")).events == 0


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("UPDATE plughost_snapshots SET data = hash", "it is damaged: its hash does not fit"),
        ("UPDATE plughost_snapshots SET version = 1000", "it is damaged"),
        ("UPDATE plughost_snapshots SET stream = 'other'", ""),
    ],
)
async def test_a_damaged_snapshot_is_ignored_with_a_warning(
    backend: Backend, store: DatabaseStore, caplog: pytest.LogCaptureFixture, sql: str, reason: str
) -> None:
    """All events are read instead, and the next snapshot takes the damaged one's place."""
    snapshots = snapshots_of(store)
    await store.append("s", [happened(number) for number in range(5)])
    await snapshots.take("s", "trail")
    tamper(backend.url, sql)
    found = await snapshots.reconstruct("s", "trail")
    assert (found.snapshot, found.events, found.state) == (0, 5, await replayed(store, "s"))
    assert reason in caplog.text
    await snapshots.take("s", "trail")
    assert (await snapshots.reconstruct("s", "trail")).snapshot == 5


async def test_a_newer_schema_is_ignored_and_kept(store: DatabaseStore, caplog: pytest.LogCaptureFixture) -> None:
    """A host of the old version reads all events, and does not overwrite what newer ones keep."""
    old, new = snapshots_of(store), snapshots_of(store, schema=2)
    await store.append("s", [happened(number) for number in range(5)])
    await new.take("s", "trail")
    await store.append("s", [happened(5)])
    found = await old.take("s", "trail")
    assert (found.snapshot, found.events) == (0, 6)
    assert "its schema 2 is newer than 1, which this host knows" in caplog.text
    assert (await new.reconstruct("s", "trail")).snapshot == 5


async def test_an_older_schema_is_replaced(store: DatabaseStore, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot whose shape nobody needs any more is made anew."""
    old, new = snapshots_of(store), snapshots_of(store, schema=2)
    await store.append("s", [happened(number) for number in range(5)])
    await old.take("s", "trail")
    assert (await new.take("s", "trail")).events == 5
    assert "its schema 1 is older than 2" in caplog.text
    assert (await new.reconstruct("s", "trail")).snapshot == 5


async def test_a_snapshot_ahead_of_its_stream_is_ignored(
    store: DatabaseStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A snapshot of events that the store does not have, as after a restored backup, is not believed."""
    await store.append("s", [happened(number) for number in range(5)])
    await store.save_snapshot(Snapshot("trail", "s", 9, 1, 1.0, {"numbers": [1]}))
    assert (await snapshots_of(store).reconstruct("s", "trail")).state == await replayed(store, "s")
    assert "it is of version 9, and the stream is at 5" in caplog.text


async def test_many_writers_at_once(store: DatabaseStore) -> None:
    """Snapshots that are taken while others append and take are states of one version each."""

    async def append(start: int) -> None:
        for number in range(start, start + 20):
            await store.append("s", [happened(number)])

    async def take(snapshots: Snapshots) -> None:
        over = False
        while not over:
            over = await store.version("s") >= 60  # one is taken after the last event, too
            await snapshots.take("s", "trail")

    hosts = [snapshots_of(store) for _ in range(3)]
    await asyncio.gather(*map(append, (0, 100, 200)), *map(take, hosts))
    kept = await store.load_snapshot("trail", "s")
    assert kept is not None
    expected = await fold(trail, store.read_stream("s", until=kept.version))
    assert kept.state == expected
    assert (await hosts[0].reconstruct("s", "trail")).state == await replayed(store, "s")


async def test_what_retention_took_out_is_in_the_snapshot(store: DatabaseStore) -> None:
    """A state whose oldest events are gone is complete with a snapshot, and says so if it is not."""
    snapshots = snapshots_of(store)
    await store.append("s", [NewEvent("tick", {"number": number}, time=number) for number in range(10)])
    before = await replayed(store, "s")
    await snapshots.take("s", "trail")
    assert await store.prune(8, None) == 8
    found = await snapshots.reconstruct("s", "trail")
    assert (found.state, found.complete) == (before, True)
    await store.drop_snapshots("trail")
    found = await snapshots.reconstruct("s", "trail")
    assert (found.state["numbers"], found.complete) == ([8, 9], False)
    assert await store.prune(99, None) == 2
    assert not (await snapshots.take("s", "trail")).complete
    assert await store.snapshots("trail") == {}


async def test_a_stream_without_events_has_an_empty_state(store: DatabaseStore) -> None:
    """There is nothing to keep of it either."""
    found = await snapshots_of(store).take("nobody", "trail")
    assert (found.state, found.version, found.complete) == ({}, 0, True)
    assert await store.snapshots("trail") == {}


async def test_reducers_have_one_name_each(store: DatabaseStore) -> None:
    """A name that is taken, or unknown, is an error that tells."""
    snapshots = snapshots_of(store)
    with pytest.raises(ValueError, match="there is a reducer 'trail' already"):
        snapshots.add("trail", trail)
    with pytest.raises(PlughostError, match="there is no reducer 'trial'; there are trail"):
        await snapshots.reconstruct("s", "trial")
    remove = snapshots.add("other", trail)
    remove()
    assert snapshots.reducers == {"trail": "*"}
