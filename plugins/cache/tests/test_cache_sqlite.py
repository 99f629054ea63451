"""The second level in a file."""

from __future__ import annotations

import logging
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from plughost_cache import CacheConfig, CacheURL
from plughost_cache._sqlite import TIDY_EVERY, SQLiteStore
from plughost_redis import BackendUnavailable
from plughost_testing import VirtualClock
from pydantic import ValidationError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@asynccontextmanager
async def opened(path: Path, clock: VirtualClock, max_bytes: int = 10**6) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, clock=clock, max_bytes=max_bytes)
    try:
        await store.start()
        yield store
    finally:
        await store.aclose()


async def test_survives_a_restart_until_it_expires(tmp_path: Path, virtual_clock: VirtualClock) -> None:
    """What was stored is there after a restart, until its time is over; nobody but the owner reads the file."""
    path = tmp_path / "cache.db"
    async with opened(path, virtual_clock) as store:
        await store.put({"a": b"1", "b": b"2"}, ttl=10)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with opened(path, virtual_clock) as store:
        assert await store.get(["b", "x", "a"]) == [b"2", None, b"1"]
        virtual_clock.advance(11)
        assert await store.get(["a"]) == [None]


async def test_adding_keeps_what_is_there(tmp_path: Path, virtual_clock: VirtualClock) -> None:
    """`add` stores where nothing is, or what was there has expired, and gives what is there then."""
    async with opened(tmp_path / "cache.db", virtual_clock) as store:
        assert await store.add({"a": b"1"}, ttl=10) == [b"1"]
        assert await store.add({"a": b"2", "b": b"3"}, ttl=10) == [b"1", b"3"]
        virtual_clock.advance(11)
        assert await store.add({"a": b"4"}, ttl=10) == [b"4"]


async def test_the_file_is_bounded(tmp_path: Path, virtual_clock: VirtualClock) -> None:
    """What expires first goes first, and the file shrinks again."""
    path = tmp_path / "cache.db"
    async with opened(path, virtual_clock, max_bytes=100_000) as store:
        for number in range(2 * TIDY_EVERY + 1):
            await store.put({f"k{number}": b"x" * 1000}, ttl=1000 + number)
        assert await store.get(["k0", f"k{2 * TIDY_EVERY}"]) == [None, b"x" * 1000]
        with closing(sqlite3.connect(path)) as database:
            count, size = database.execute("SELECT COUNT(*), SUM(LENGTH(value)) FROM entry").fetchone()
        assert count < 100
        assert size <= 100_000


@pytest.mark.parametrize("kind", ["noise", "truncated", "other table", "other format"])
async def test_an_unreadable_file_is_made_anew(
    kind: str, tmp_path: Path, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a cache: what cannot be read is thrown away, and the log says so."""
    path = tmp_path / "cache.db"
    if kind == "noise":
        path.write_bytes(b"no database at all" * 500)
    elif kind == "truncated":
        async with opened(path, virtual_clock) as store:
            for number in range(50):
                await store.put({f"k{number}": b"x" * 1000}, ttl=10)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE entry (a)" if kind == "other format" else "CREATE TABLE other (a)")
        database.execute(f"PRAGMA user_version = {7 if kind == 'other format' else 1}")
        database.close()
    async with opened(path, virtual_clock) as store:
        await store.put({"a": b"1"}, ttl=10)
        assert await store.get(["a"]) == [b"1"]
    assert "made anew" in caplog.text


async def test_corruption_under_way_is_survived(
    tmp_path: Path, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a file that was sound when it was opened."""
    path = tmp_path / "cache.db"
    async with opened(path, virtual_clock) as store:
        for number in range(200):
            await store.put({f"k{number}": b"x" * 5000}, ttl=10)
        store._close()
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 300_000)
        for number in range(0, 200, 20):
            await store.put({f"n{number}": b"y"}, ttl=10)
            assert await store.get([f"k{number}", f"n{number}"]) in ([None, b"y"], [b"x" * 5000, b"y"])
    assert "made anew" in caplog.text


async def test_a_locked_file_is_away_and_comes_back(
    tmp_path: Path, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be written now is sound: it is left alone, and used again later."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "cache.db"
    async with opened(path, virtual_clock) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BackendUnavailable, match="locked"):
            await store.put({"a": b"1"}, ttl=10)
        assert store.up is False
        other.execute("COMMIT")
        other.close()
        await store.put({"a": b"1"}, ttl=10)
        await store.check()
    assert "memory only" in caplog.text
    assert "back" in caplog.text


async def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path, virtual_clock: VirtualClock) -> None:
    """A path that can never work is told at the start, with its name."""
    with pytest.raises(BackendUnavailable, match="nowhere"):
        async with opened(tmp_path / "nowhere" / "cache.db", virtual_clock):
            pass


@pytest.mark.parametrize("url", ["memory://", "sqlite:///cache.db", "redis://localhost/0", "valkeys://localhost"])
def test_where_the_second_level_may_be(url: str) -> None:
    """Nowhere, in a file, or on a server."""
    assert CacheConfig.model_validate({"url": url}).url == CacheURL(url)


@pytest.mark.parametrize("text", ["sqlite:///", "mysql://x", "redis://localhost/notes"])
def test_urls_that_lead_nowhere_are_refused(text: object) -> None:
    """The message shows how to write one."""
    with pytest.raises(ValidationError, match="write for example"):
        CacheConfig.model_validate({"url": text})
