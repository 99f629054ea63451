"""What was acknowledged is there: after kills of the writer, after kills of the server, and when the disk is full."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from event_stores import Listener, collected, happened, open_store
from plughost_events import NewEvent, StoreUnavailable
from plughost_events._store import DatabaseStore
from plughost_testing import Backend, on_backends
from plughost_testing.services import PostgreSQL, Stack

pytestmark = pytest.mark.anyio

# One process imports everything once, and then forks writers and kills them: a round takes as long as the load.
KILLER = """
import asyncio, json, os, random, select, signal, sys, time
from event_stores import database, happened, open_store

url, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)

async def load(acknowledge, round):
    async with open_store(url) as store:
        os.write(acknowledge, b"ready\\n")
        async def append(number):
            while True:
                size = dice.randint(1, 3)
                receipts = await store.append(f"s:{number % 4}", [happened(round) for _ in range(size)])
                os.write(acknowledge, "".join(f"{one.id} {one.position}\\n" for one in receipts).encode())
        await asyncio.gather(*map(append, range(12)))

def crash(round):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        asyncio.run(load(writing, round))
        os._exit(1)
    os.close(writing)
    heard = b""
    while b"ready" not in heard:
        heard += os.read(reading, 65536)
    deadline = time.monotonic() + dice.uniform(0.0, 0.04)
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            heard += os.read(reading, 65536)
    os.kill(child, signal.SIGKILL)
    while more := os.read(reading, 65536):
        heard += more
    os.close(reading)
    os.waitpid(child, 0)
    lines = heard.decode().rpartition("\\n")[0].splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines if line != "ready"}

acknowledged, missing, faults, last, store = 0, [], [], 0, database(url)
for round in range(rounds):
    promised = crash(round)
    acknowledged += len(promised)
    found = {}
    while rows := store.page(last):
        found |= {row.id: row.position for row in rows}
        last = rows[-1].position
    missing += [id for id, position in promised.items() if found.get(id) != position]
    if round % 25 == 24 or round == rounds - 1:
        faults += [str(fault) for fault in store.verify()[1]]
print(json.dumps({"acknowledged": acknowledged, "stored": last, "missing": missing, "faults": faults}))
"""


def kill_writers(url: str, rounds: int, seed: int) -> dict[str, Any]:
    """Kill a writer so many times at a random moment of its load; what is found afterwards."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLER, url, str(rounds), str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@on_backends("sqlite")
def test_a_killed_writer_keeps_its_word(backend: Backend) -> None:
    """Killed with SIGKILL 20 times, each acknowledged event is at its place, the chain verifies, nothing is mended."""
    found = kill_writers(backend.url, 20, seed=1)
    assert (found["missing"], found["faults"]) == ([], [])
    assert found["acknowledged"] > 20


@pytest.mark.services
@on_backends("sqlite")
def test_200_killed_writers_keep_their_word(backend: Backend) -> None:
    """The same 200 times."""
    found = kill_writers(backend.url, 200, seed=2)
    assert (found["missing"], found["faults"]) == ([], [])
    assert found["acknowledged"] > 200


@on_backends("postgresql")
def test_killed_writers_to_a_server_keep_their_word(backend: Backend) -> None:
    """The same on PostgreSQL, where what the dead left behind must not hold up the living."""
    found = kill_writers(backend.url, 30, seed=3)
    assert (found["missing"], found["faults"]) == ([], [])
    assert found["acknowledged"] > 30


@pytest.fixture
def server(stack: Stack) -> PostgreSQL:
    return stack.start(PostgreSQL())


async def under_load(store: DatabaseStore, trouble: Any) -> dict[str, int]:
    """Append from ten tasks while `trouble()` runs in a thread; each append is repeated until it is acknowledged."""
    acknowledged: dict[str, int] = {}
    done = asyncio.Event()

    async def append(task: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            event = NewEvent("happened", {"number": number}, id=f"{task}-{number}")
            while event.id not in acknowledged:
                try:
                    (receipt,) = await store.append(f"s:{task % 3}", [event])
                except StoreUnavailable:
                    await asyncio.sleep(0.02)
                else:
                    acknowledged[receipt.id] = receipt.position

    tasks = [asyncio.create_task(append(task)) for task in range(10)]
    await asyncio.to_thread(trouble)
    await store.append("s:0", [happened(-1)]) if not store.writer.reason else None
    done.set()
    await asyncio.gather(*tasks)
    return acknowledged


@pytest.mark.alone
@pytest.mark.services
async def test_a_server_that_is_killed_under_load(server: PostgreSQL) -> None:
    """PostgreSQL killed and restarted: what was acknowledged is there, once; the rest is stored when it is back."""

    def kill_and_restart() -> None:
        for _ in range(3):
            server.kill()
            server.start()

    listener = Listener()
    url = server.new_database()
    async with open_store(url, listener=listener, patience=3) as store:
        acknowledged = await under_load(store, kill_and_restart)
        events = await collected(store.read())
        stored = {event.id: event.position for event in events}
        assert {id_: stored.get(id_) for id_ in acknowledged} == acknowledged
        assert [event.position for event in events] == list(range(1, len(events) + 1))
        assert len(stored) == len(events)
        assert not (await store.verify()).faults
    assert [line.partition(":")[0] for line in listener.news][:2] == ["down", "up"]


@pytest.mark.alone
@pytest.mark.services
async def test_a_server_that_hangs_under_load(server: PostgreSQL) -> None:
    """PostgreSQL frozen: the store says so within its patience, and goes on when the server does."""
    url = server.new_database()
    listener = Listener()
    async with open_store(url, listener=listener, patience=0.3) as store:

        def freeze() -> None:
            server.freeze()
            deadline = time.monotonic() + 10
            while not store.writer.reason and time.monotonic() < deadline:
                time.sleep(0.01)
            server.thaw()

        acknowledged = await under_load(store, freeze)
        stored = {event.id: event.position for event in await collected(store.read())}
        assert {id_: stored.get(id_) for id_ in acknowledged} == acknowledged
        assert not (await store.verify()).faults
    assert "down: no answer within 0.3 s" in listener.news
    assert listener.news[-1] == "up"


def delete_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


async def test_a_file_that_is_taken_away(tmp_path: Path) -> None:
    """A host whose file was deleted writes nothing into nowhere: it says so, and begins a new store."""
    listener = Listener()
    path = tmp_path / "events.db"
    async with open_store(f"sqlite:///{path}", listener=listener) as store:
        await store.append("s", [happened(0)])
        delete_all(tmp_path)
        (receipt,) = await store.append("s", [happened(1)])
        assert receipt.position == 1
        assert path.exists()
    assert listener.news == [f"down: {path} was moved or deleted; a new store is begun", "up"]


@pytest.mark.alone
@pytest.mark.services
async def test_reading_from_a_server_that_hangs(server: PostgreSQL) -> None:
    """A question ends within the patience, and the next one is answered when the server goes on."""
    async with open_store(server.new_database(), patience=0.3) as store:
        await store.append("s", [happened(0)])
        server.freeze()
        try:
            with pytest.raises(StoreUnavailable, match=r"no answer within 0\.3 s"):
                await store.version("s")
        finally:
            server.thaw()
        assert await store.version("s") == 1


async def test_a_full_disk(tmp_path: Path) -> None:
    """SQLite without room: nothing acknowledged is lost, appends are refused, and all goes on when there is room."""
    listener = Listener()
    async with open_store(f"sqlite:///{tmp_path}/events.db", listener=listener, patience=0.2) as store:
        await store.append("s", [happened(0)])

        def limit_pages(pages: int) -> Any:
            def work(database: Any) -> None:
                database.reset = lambda: None  # the limit is that of the connection
                database.run(f"PRAGMA max_page_count = {pages}")

            return work

        await store._writing.run(limit_pages(40))
        acknowledged = 1

        async def fill() -> None:
            nonlocal acknowledged
            while True:
                await store.append("s", [NewEvent("happened", {"number": acknowledged, "filler": "x" * 2000})])
                acknowledged += 1

        with pytest.raises(StoreUnavailable):
            await fill()
        assert "database or disk is full" in store.writer.reason
        assert [(event.data or {})["number"] for event in await collected(store.read())] == list(range(acknowledged))
        assert not (await store.verify()).faults
        await store._writing.run(limit_pages(100_000))
        await asyncio.wait_for(listener.back.wait(), 10)
        assert await store.version("s") == acknowledged + 1  # what was in doubt has been stored meanwhile
        assert not (await store.verify()).faults
    assert [line.partition(":")[0] for line in listener.news] == ["down", "up"]
