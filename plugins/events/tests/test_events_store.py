"""The store, on both databases."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from event_stores import Box, Listener, collected, database, happened, numbers, open_store, tamper
from plughost_events import (
    Anchor,
    Event,
    EventStore,
    NewEvent,
    Projection,
    Snapshot,
    State,
    StoreError,
    StoreFormatError,
    StoreUnavailable,
    VersionConflict,
    activity,
    fold,
)
from plughost_events._database import Database
from plughost_events._event import LARGEST, prepared
from plughost_events._store import DatabaseStore
from plughost_testing import Backend, on_backends
from plughost_testing.services import Service

pytestmark = [pytest.mark.anyio, on_backends("sqlite", "postgresql")]

KEY = b"k" * 32


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[DatabaseStore]:
    async with open_store(backend.url) as store:
        yield store


# -- appending ----------------------------------------------------------------------------------------------------


async def test_appended_events_are_read_as_they_were(store: DatabaseStore) -> None:
    """An event comes back with its data, its place, and the time at which it happened."""
    assert isinstance(store, EventStore)
    data = {"text": "ä\x00\u2028", "number": -7, "list": [None, 1.5, {"deep": True}]}
    (receipt,) = await store.append("order:1", [NewEvent("order.placed", data, schema=3, id="mine", time=12.000001)])
    (event,) = await collected(store.read())
    assert receipt == ("mine", "order:1", 1, 1)
    assert (event.id, event.stream, event.position, event.version) == ("mine", "order:1", 1, 1)
    assert (event.type, event.schema, event.time, event.data) == ("order.placed", 3, 12.000001, data)


async def test_positions_and_versions_have_no_gap(store: DatabaseStore) -> None:
    """The store counts all events, and each stream its own, in the order in which they were appended."""
    for number in range(6):
        await store.append(f"s:{number % 2}", [happened(number), happened(number + 100)])
    events = await collected(store.read())
    assert [event.position for event in events] == list(range(1, 13))
    assert numbers(events) == [0, 100, 1, 101, 2, 102, 3, 103, 4, 104, 5, 105]
    one = await collected(store.read_stream("s:1"))
    assert [event.version for event in one] == list(range(1, 7))
    assert await store.version("s:1") == 6
    assert await store.version("s:2") == 0
    assert await store.streams("s:") == {"s:0": 6, "s:1": 6}


async def test_a_stream_that_moved_on_is_a_conflict(store: DatabaseStore) -> None:
    """With an expected version that is not the stream's nothing is stored, and the error tells both."""
    await store.append("order:1", [happened(1)], expected_version=0)
    with pytest.raises(VersionConflict, match=r"'order:1' is at version 1, not at 0; read what is new") as caught:
        await store.append("order:1", [happened(2), happened(3)], expected_version=0)
    assert (caught.value.expected, caught.value.version) == (0, 1)
    await store.append("order:1", [happened(2)], expected_version=1)
    assert numbers(await collected(store.read())) == [1, 2]


async def test_a_conflict_spares_the_rest_of_its_batch(store: DatabaseStore) -> None:
    """Appends that are committed together succeed and fail each for itself."""
    found = await asyncio.gather(
        *(store.append("order:1", [happened(number)], expected_version=0) for number in range(20)),
        *(store.append("order:2", [happened(number)]) for number in range(20)),
        return_exceptions=True,
    )
    assert sum(not isinstance(item, VersionConflict) for item in found[:20]) == 1
    assert not [item for item in found[20:] if isinstance(item, BaseException)]
    assert await store.version("order:2") == 20
    assert not (await store.verify()).faults


async def test_an_event_is_stored_once(store: DatabaseStore) -> None:
    """Appending the same id again stores nothing and tells the same place, whatever version is expected."""
    event = NewEvent("order.placed", id="order-1-placed")
    first = await store.append("order:1", [event], expected_version=0)
    again = await asyncio.gather(*(store.append("order:1", [event], expected_version=0) for _ in range(5)))
    assert [*again] == [first] * 5
    assert len(await collected(store.read())) == 1


async def test_two_writers_of_one_stream(backend: Backend, store: DatabaseStore) -> None:
    """Of two hosts that append to one stream exactly one wins each version, and no position is left out."""

    async def appends(store: DatabaseStore, who: str) -> list[int]:
        won: list[int] = []
        while len(won) < 15:
            version = await store.version("order:1")
            try:
                (receipt,) = await store.append("order:1", [NewEvent(who)], expected_version=version)
            except VersionConflict:
                continue
            won.append(receipt.version)
        return won

    async with open_store(backend.url) as other:
        one, two = await asyncio.gather(appends(store, "one"), appends(other, "two"))
    events = await collected(store.read())
    assert sorted(one + two) == list(range(1, 31))
    assert [event.position for event in events] == list(range(1, 31))
    assert {event.version for event in events if event.type == "one"} == set(one)
    assert not (await store.verify()).faults


REFUSED = (
    ("", NewEvent("x"), "stream ''"),
    ("a\nb", NewEvent("x"), "printable"),
    ("s" * 513, NewEvent("x"), "1 to 512"),
    ("s", NewEvent(""), "type ''"),
    ("s", NewEvent("x", id="a\0b"), "id"),
    ("s", NewEvent("x", {"blob": "x" * LARGEST}), "bytes of data"),
)


async def test_what_cannot_be_stored_is_refused(store: DatabaseStore) -> None:
    """A name or an event that some database would not take is refused before it is queued."""
    for stream, event, problem in REFUSED:
        with pytest.raises(ValueError, match=problem):
            await store.append(stream, [event])
    assert not store.writer.taken


async def test_what_json_has_no_word_for_is_replaced(store: DatabaseStore) -> None:
    """Half a surrogate pair and numbers beyond 64 bits do not keep an event from being stored."""
    await store.append("s", [NewEvent("odd", {"half": "a\ud800b", "large": 2**80, "set": {1}})])
    (event,) = await collected(store.read())
    assert event.data == {"half": "a?b", "large": float(2**80), "set": "{1}"}


async def test_more_than_a_page_is_read(store: DatabaseStore) -> None:
    """Reading goes on over pages, from any place to any other."""
    await store.append("s", [happened(number) for number in range(1200)])
    assert numbers(await collected(store.read())) == list(range(1200))
    assert numbers(await collected(store.read(after=1198))) == [1198, 1199]
    assert numbers(await collected(store.read_stream("s", after=499, until=502))) == [499, 500, 501]
    assert numbers(await collected(store.read(until=2))) == [0, 1]


async def test_more_than_the_queue_takes_waits(backend: Backend) -> None:
    """Who appends waits for a place in the queue, and what never fits is refused."""
    async with open_store(backend.url, limit=10) as store:
        await asyncio.gather(*(store.append("s", [happened(0), happened(1), happened(2)]) for _ in range(30)))
        assert await store.version("s") == 90
        assert (store.writer.taken, store.writer.waiting) == (0, 0)
        with pytest.raises(StoreUnavailable, match=r"11 events at once are more than the queue takes \(10\)"):
            await store.append("s", [happened(0)] * 11)


async def test_closing_writes_what_waits(backend: Backend) -> None:
    """What was posted and not yet written is written before the store is closed."""
    async with open_store(backend.url) as store:
        for number in range(50):
            assert store.writer.reserve()
            store.writer.post("s", prepared("s", happened(number), 1.0))
    async with open_store(backend.url) as store:
        assert numbers(await collected(store.read())) == list(range(50))


# -- the chain ----------------------------------------------------------------------------------------------------

ALTERATIONS = (
    "data = hash",
    "type = 'other'",
    "stream = 'other'",
    "version = 99",
    "time = 7",
    "schema = 2",
    "id = 'x'",
)


@pytest.mark.parametrize("key", [b"", KEY], ids=["hash", "hmac"])
async def test_an_altered_event_is_named(backend: Backend, key: bytes) -> None:
    """Changing any column of one event is found, and names that event and no other (G8)."""
    async with open_store(backend.url, key=key) as store:
        await store.append("s", [happened(number) for number in range(5)])
        assert not (await store.verify()).faults
        for change in ALTERATIONS:
            column, value = change.split(" = ")
            (row,) = await store._reading.run(Database.page, 2, 1)
            tamper(backend.url, f"UPDATE plughost_events SET {column} = {value} WHERE position = 3")
            (fault,) = (await store.verify()).faults
            assert fault.position == 3, change
            assert "was altered" in fault.what
            tamper(backend.url, f"UPDATE plughost_events SET {column} = ? WHERE position = 3", getattr(row, column))
        assert not (await store.verify()).faults


@pytest.mark.parametrize(
    ("sql", "position", "words"),
    [
        ("DELETE FROM plughost_events WHERE position = 3", 3, "1 event is missing before event"),
        ("DELETE FROM plughost_events WHERE position IN (2, 3)", 2, "2 events are missing"),
        ("DELETE FROM plughost_events WHERE position = 5", 5, "the events up to position 5 are missing"),
        ("DELETE FROM plughost_events", 1, "up to position 5 are missing"),
        ("UPDATE plughost_chain SET position = 4", 5, "was put behind the end"),
    ],
)
async def test_a_missing_event_is_named(
    backend: Backend, store: DatabaseStore, sql: str, position: int, words: str
) -> None:
    """Taking events out of the middle or off the end is found (G8)."""
    await store.append("s", [happened(number) for number in range(5)])
    tamper(backend.url, sql)
    faults = (await store.verify()).faults
    assert faults[0].position == position
    assert words in faults[0].what


async def test_a_forged_hash_does_not_help(backend: Backend, store: DatabaseStore) -> None:
    """Who alters an event and gives it the hash that fits is found by the event after it (G8)."""
    await store.append("s", [happened(number) for number in range(5)])
    intruder = database(backend.url)
    intruder.connect()
    before, row = intruder.page(1, 2)
    from plughost_events._chain import link

    forged = link(before.hash, b"", row._replace(data=b"{}")[:-1])
    intruder.close()
    tamper(backend.url, "UPDATE plughost_events SET data = ?, hash = ? WHERE position = 3", b"{}", forged)
    (fault,) = (await store.verify()).faults
    assert fault.position == 4
    assert fault.what.endswith("was altered, or its hash and that of position 3")


async def test_a_chain_made_anew_is_found_by_an_anchor(backend: Backend) -> None:
    """A head that was noted elsewhere finds a store whose whole chain was forged (G8)."""
    async with open_store(backend.url) as store:
        await store.append("s", [happened(1), happened(2)])
        noted = Anchor.parse(str(await store.head()))
        assert not (await store.verify(noted)).faults
    for table in ("events", "streams", "chain"):
        tamper(backend.url, f"DELETE FROM plughost_{table}")
    async with open_store(backend.url) as store:
        await store.append("s", [happened(1), happened(3)])
        assert not (await store.verify()).faults
        (fault,) = (await store.verify(noted)).faults
        assert "the chain was made anew" in fault.what


async def test_the_key_is_that_of_the_first_event(backend: Backend) -> None:
    """A store whose chain was begun with another key, or without, is not opened (G8)."""
    async with open_store(backend.url, key=KEY) as store:
        await store.append("s", [happened(1)])
    for other in (b"", b"x" * 32):
        with pytest.raises(StoreFormatError, match="another chain_key"):
            async with open_store(backend.url, key=other):
                pass


async def test_tables_of_a_newer_format_are_left_alone(backend: Backend) -> None:
    """A store that a newer version made is not opened."""
    async with open_store(backend.url):
        pass
    tamper(backend.url, "UPDATE plughost_chain SET format = 9")
    with pytest.raises(StoreFormatError, match="format 9, and this version reads 1; upgrade"):
        async with open_store(backend.url):
            pass


# -- reading further ----------------------------------------------------------------------------------------------


async def test_subscribers_get_what_is_there_and_what_comes(backend: Backend, store: DatabaseStore) -> None:
    """A subscription gives each event once and in order, those of other hosts too, from any position on."""
    await store.append("s", [happened(0), happened(1)])
    got: list[int] = []
    async with open_store(backend.url) as other, aclosing(store.subscribe(after=1)) as events:
        async for event in events:
            got.append((event.data or {})["number"])
            if len(got) == 1:
                await store.append("s", [happened(2)])
            elif len(got) == 2:
                await other.append("s", [happened(3)])
            else:
                break
    assert got == [1, 2, 3]


async def test_old_schemas_are_read_in_the_newest(store: DatabaseStore) -> None:
    """Upcasters lead from schema to schema; what is stored, and its hash, stay as they are."""
    await store.append("s", [NewEvent("named", {"name": "Ada Lovelace"}), NewEvent("named", {"full": "x"}, schema=2)])
    store.upcasters.add("named", 1, lambda data: {"full": data["name"]})
    store.upcasters.add("named", 2, lambda data: {**data, "short": data["full"][:3]})
    first, second = await collected(store.read())
    assert (first.schema, first.data) == (3, {"full": "Ada Lovelace", "short": "Ada"})
    assert (second.schema, second.data) == (3, {"full": "x", "short": "x"})
    assert not (await store.verify()).faults
    with pytest.raises(ValueError, match="an upcaster from schema 1 already"):
        store.upcasters.add("named", 1, dict)


async def test_a_projection_follows_and_is_rebuilt(store: DatabaseStore) -> None:
    """A projection takes in each event once; rebuilt from zero it is the same."""

    def total(state: State, event: Event) -> State:
        return {"sum": state.get("sum", 0) + (event.data or {})["number"]}

    sums = Projection(store, total)
    await store.append("s", [happened(1), happened(2)])
    assert await sums.catch_up() == {"sum": 3}
    following = asyncio.create_task(sums.follow())
    await store.append("t", [happened(4)])
    async with asyncio.timeout(5), aclosing(store.subscribe(after=2)) as events:
        await anext(events)  # the other subscription has it by then, or with the next turn of the loop
    await asyncio.sleep(0.05)
    following.cancel()
    assert sums.state == {"sum": 7}
    assert await sums.rebuild() == {"sum": 7}
    assert await fold(total, store.read()) == {"sum": 7}


async def test_activity_counts(store: DatabaseStore) -> None:
    """The built-in reducer counts events by type, calls by method, target and outcome."""
    call = {"method": "tools/call", "target": "add", "outcome": "success", "duration_us": 5}
    await store.append("s", [NewEvent("call.completed", call, time=1), NewEvent("call.completed", call, time=2)])
    await store.append("s", [NewEvent("host.started", {}, time=3)])
    assert await fold(activity, store.read()) == {
        "events": 3,
        "types": {"call.completed": 2, "host.started": 1},
        "calls": 2,
        "duration_us": 10,
        "methods": {"tools/call": 2},
        "targets": {"add": 2},
        "outcomes": {"success": 2},
        "first": 1.0,
        "last": 3.0,
    }


async def test_the_first_event_of_a_time_is_found(store: DatabaseStore) -> None:
    """A time leads to a position without an index over times."""
    await store.append("s", [NewEvent("tick", time=second) for second in range(10, 30)])

    def before(database: Database, seconds: int) -> int:
        return database.before(seconds * 10**6)

    for seconds, position in ((0, 0), (10, 0), (15, 5), (29, 19), (99, 20)):
        assert await store._reading.run(before, seconds) == position


# -- retention ----------------------------------------------------------------------------------------------------


async def test_old_events_go_to_files_and_the_chain_still_verifies(
    backend: Backend, store: DatabaseStore, tmp_path: Path
) -> None:
    """What is pruned is in files that verify up to the anchor; streams go on counting."""
    from plughost_events._archive import archive_faults, archives, read_archive

    folder = tmp_path / "archive"
    await store.append("s", [NewEvent("tick", {"number": n}, time=n) for n in range(1, 6)])
    assert await store.prune(3, folder) == 2
    assert await store.prune(5, folder) == 2
    assert await store.prune(5, folder) == 0
    await store.append("s", [NewEvent("tick", {"number": 6}, time=6)], expected_version=5)
    assert numbers(await collected(store.read())) == [5, 6]
    found = await store.verify()
    assert (found.faults, found.anchor.position, found.head.position) == ([], 4, 6)
    one, two = archives(folder)
    assert not list(archive_faults(folder, found.anchor, b""))
    assert [row.data for row in read_archive(two)[1]] == [b'{"number":3}', b'{"number":4}']
    one.write_bytes(two.read_bytes())
    assert list(archive_faults(folder, found.anchor, b""))
    one.write_bytes(b"")
    assert "is no archive of events, or is damaged" in str(next(iter(archive_faults(folder, found.anchor, b""))))


async def test_a_clock_that_was_wrong_takes_nothing_along(store: DatabaseStore) -> None:
    """An event with a time long past does not make newer ones before it look old."""
    await store.append("s", [NewEvent("tick", time=100), NewEvent("tick", time=0), NewEvent("tick", time=101)])
    assert await store.prune(50, None) == 0
    assert await store.prune(101, None) == 2


async def test_a_full_archive_deletes_nothing(store: DatabaseStore, tmp_path: Path) -> None:
    """If the file cannot be written, the events stay, and the chain begins where it did."""
    blocked = tmp_path / "archive"
    blocked.write_text("a file, where a folder should be")
    await store.append("s", [NewEvent("tick", time=1)])
    with pytest.raises(FileExistsError):
        await store.prune(5, blocked)
    assert len(await collected(store.read())) == 1
    assert (await store.verify()).anchor.position == 0


# -- sealing ------------------------------------------------------------------------------------------------------


async def test_sealed_events_need_the_box(backend: Backend) -> None:
    """With a box nothing readable is stored; without it events keep their place and lose their data."""
    box = Box()
    async with open_store(backend.url, box=box) as store:
        await store.append(
            "s", [NewEvent("secret", {"word": "sesame"}, tenant="acme"), NewEvent("secret", {"word": "sesame"})]
        )
        assert box.tenants == ["acme", None]
        rows = await store._reading.run(Database.page, 0)
        assert not [row for row in rows if b"sesame" in bytes(row.data)]
        assert [event.data for event in await collected(store.read())] == [{"word": "sesame"}] * 2
    async with open_store(backend.url) as store:
        assert [(event.type, event.data) for event in await collected(store.read())] == [("secret", None)] * 2
        assert not (await store.verify()).faults
    tamper(backend.url, "UPDATE plughost_events SET data = (SELECT data FROM plughost_events WHERE position = 1)")
    async with open_store(backend.url, box=Box()) as store:
        assert [event.data for event in await collected(store.read())] == [{"word": "sesame"}, None]


# -- snapshots ----------------------------------------------------------------------------------------------------


async def test_the_newest_snapshot_is_kept(store: DatabaseStore) -> None:
    """An older state never replaces a newer one, in whatever order writers come."""
    for version in (5, 9, 7):
        await store.save_snapshot(Snapshot("activity", "s", version, 1, 2.0, {"version": version}))
    await store.save_snapshot(Snapshot("activity", "t", 1, 1, 2.0, {}))
    assert await store.load_snapshot("activity", "s") == Snapshot("activity", "s", 9, 1, 2.0, {"version": 9})
    assert await store.load_snapshot("other", "s") is None
    assert await store.snapshots("activity") == {"s": 9, "t": 1}
    assert await store.drop_snapshots("activity", "s") == 1
    assert await store.drop_snapshots("activity") == 1
    assert await store.load_snapshot("activity", "s") is None


async def test_a_damaged_snapshot_is_seen(backend: Backend) -> None:
    """A snapshot that was altered, or is sealed with another key, is an error, not a state."""
    async with open_store(backend.url, box=Box()) as store:
        await store.save_snapshot(Snapshot("activity", "s", 5, 1, 2.0, {"word": "sesame"}))
        snapshot = await store.load_snapshot("activity", "s")
        assert snapshot is not None
        assert snapshot.state == {"word": "sesame"}
    async with open_store(backend.url, box=Box(0x11)) as store:
        with pytest.raises(ValueError, match="sealed, and cannot be opened: ValueError"):
            await store.load_snapshot("activity", "s")
    tamper(backend.url, "UPDATE plughost_snapshots SET version = 6")
    async with open_store(backend.url, box=Box()) as store:
        with pytest.raises(ValueError, match="its hash does not fit"):
            await store.load_snapshot("activity", "s")


# -- trouble ------------------------------------------------------------------------------------------------------


async def test_a_write_that_fails_is_repeated(store: DatabaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose write fails waits until it succeeds, and is stored once even if the commit had gone through."""
    write, times = Database.write, iter(range(100))

    def stumbling(self: Database, *arguments: object) -> object:
        outcome = write(self, *arguments)  # type: ignore[arg-type]  # handed on
        if next(times) == 0:
            raise ConnectionError("the answer was lost")
        return outcome

    monkeypatch.setattr(Database, "write", stumbling)
    listener = Listener()
    store._listener = listener
    (receipt,) = await store.append("s", [happened(1)])
    assert receipt.position == 1
    assert numbers(await collected(store.read())) == [1]
    assert listener.news == ["down: ConnectionError: the answer was lost", "up"]


async def test_a_store_that_is_away_refuses_at_once(backend: Backend, tmp_path: Path) -> None:
    """While nothing can be written an append fails without being queued, and the start does not fail."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"postgresql://postgres@127.0.0.1:{nobody.getsockname()[1]}/postgres"
        url = away if isinstance(backend.service, Service) else f"sqlite:///{tmp_path}"  # a folder is no file
        async with open_store(url) as store:
            with pytest.raises(StoreUnavailable, match="OperationalError"):
                await store.append("s", [happened(1)])
            assert store.writer.taken == 0


async def test_a_mistake_in_the_config_stops_the_start(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not there, and a library that is not installed, are not taken for a database that is away."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    postgresql = isinstance(backend.service, Service)
    words = r"pip install 'plughost-events\[postgresql\]'" if postgresql else "the folder /nowhere/at does not exist"
    with pytest.raises(StoreError, match=words):
        async with open_store(backend.url if postgresql else "sqlite:////nowhere/at/all.db"):
            pass


async def test_a_watcher_that_raises_harms_nobody(store: DatabaseStore, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, others are told of the stream and its versions, and appending goes on; until it is forgotten."""
    told: list[tuple[str, int, int]] = []

    def raises(*_: object) -> None:
        raise KeyError("x")

    forget = store.watch(raises)
    store.watch(lambda *news: told.append(news))
    await store.append("s", [happened(1), happened(2)])
    await store.append("s", [happened(3)])
    forget()
    await store.append("t", [happened(4)])
    assert told == [("s", 0, 2), ("s", 2, 3), ("t", 0, 1)]
    assert caplog.text.count("a watcher of the event store raised") == 2
