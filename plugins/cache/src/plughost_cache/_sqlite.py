"""The second level in a file: survives a restart, and is shared by the processes of one machine."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from plughost_redis import BackendUnavailable

if TYPE_CHECKING:
    from plughost import Clock

T = TypeVar("T")
logger = logging.getLogger("plughost.cache")

FORMAT = 1
"""Written into the file as `user_version`; a file of another format is made anew."""
TIDY_EVERY = 256
"""Writes after which what has expired is deleted, and the oldest of what is too much."""
_SCHEMA = f"""
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX by_expiry ON entry (expires);
    PRAGMA user_version = {FORMAT};
"""


class SQLiteStore:
    """A file with one thread that speaks to it, at most `max_bytes` of values.

    It is a cache: a file that cannot be read is thrown away and made anew, with a warning.
    """

    def __init__(self, path: Path, *, clock: Clock, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.up = True
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plughost-cache")
        self._database: sqlite3.Connection | None = None
        self._writes = 0

    async def start(self) -> None:
        """Open or make the file.

        Raises:
            BackendUnavailable: It can be neither opened nor made.
        """
        await self.check()

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        now = self._clock.time()
        return await self._run(lambda database: _get(database, keys, now))

    async def put(self, values: Mapping[str, bytes], ttl: float) -> None:
        now = self._clock.time()
        rows = [(key, value, now + ttl) for key, value in values.items()]

        def work(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", rows)
            self._tidy(database, now)

        await self._run(work)

    async def add(self, values: Mapping[str, bytes], ttl: float) -> list[bytes]:
        now = self._clock.time()
        rows = [(key, value, now + ttl) for key, value in values.items()]

        def work(database: sqlite3.Connection) -> list[bytes | None]:
            unless = "ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires"
            database.executemany(
                f"INSERT INTO entry VALUES (?, ?, ?) {unless} WHERE expires <= ?",  # noqa: S608 - no value is in it
                [(*row, now) for row in rows],
            )
            return _get(database, list(values), now)

        found = await self._run(work)
        return [there or value for there, value in zip(found, values.values(), strict=True)]

    async def tell(self, message: bytes) -> None:
        """Nobody to tell: other processes see what was given up when they ask the file."""

    async def check(self) -> None:
        await self._run(lambda database: database.execute("SELECT 1").fetchone())

    async def aclose(self) -> None:
        """Close the file and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    # -- in the thread ------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)
        except (sqlite3.Error, OSError) as error:
            if self.up:
                logger.warning("the cache goes on in memory only: %s: %s", self.path, error)
            self.up = False
            raise BackendUnavailable(f"{self.path} is unavailable: {error}") from error
        if not self.up:
            logger.info("the cache has %s back", self.path)
        self.up = True
        return found

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return self._in_transaction(work)
        except sqlite3.OperationalError:
            raise  # locked, full, read only: the file is sound
        except sqlite3.DatabaseError as error:
            logger.warning("the cache file %s is made anew: %s", self.path, error)
            self._close()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            return self._in_transaction(work)

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._database is None:
            self._database = self._open()
        with self._database:
            return work(self._database)

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self.path, timeout=0.5, check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous = NORMAL")
            found = database.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                database.executescript(_SCHEMA)
            elif found != FORMAT:
                raise sqlite3.DatabaseError(f"it has format {found}, not {FORMAT}")
            database.execute("SELECT key, value, expires FROM entry LIMIT 1")
        except BaseException as error:
            database.close()
            if "no such" in str(error):
                raise sqlite3.DatabaseError(f"it is no cache: {error}") from error
            raise
        return database

    def _tidy(self, database: sqlite3.Connection, now: float) -> None:
        self._writes += 1
        if self._writes % TIDY_EVERY != 1:
            return
        database.execute("DELETE FROM entry WHERE expires <= ?", (now,))
        total = database.execute("SELECT COALESCE(SUM(LENGTH(value)), 0) FROM entry").fetchone()[0]
        if total > self.max_bytes:  # what expires first goes first, until an eighth is free
            surplus, going = total - self.max_bytes * 7 // 8, []
            for key, size in database.execute("SELECT key, LENGTH(value) FROM entry ORDER BY expires"):
                going.append((key,))
                surplus -= size
                if surplus <= 0:
                    break
            database.executemany("DELETE FROM entry WHERE key = ?", going)
        database.execute("PRAGMA incremental_vacuum")

    def _close(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None


def _get(database: sqlite3.Connection, keys: Sequence[str], now: float) -> list[bytes | None]:
    marks = ", ".join("?" * len(keys))
    query = f"SELECT key, value FROM entry WHERE expires > ? AND key IN ({marks})"  # noqa: S608 - marks only
    found = dict(database.execute(query, (now, *keys)).fetchall())
    return [found.get(key) for key in keys]
