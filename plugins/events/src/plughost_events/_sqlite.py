"""SQLite: a file in WAL mode beside the config, or memory."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from plughost_events._database import Database
from plughost_events._errors import StoreError, StoreUnavailable

MEMORY = ":memory:"
BUSY = 5.0
"""Seconds to wait for another process that writes."""


class SQLite(Database):
    """A commit is on the disk when it returns: WAL with `synchronous=FULL`."""

    types: ClassVar[dict[str, str]] = {
        "integer": "INTEGER",
        "bytes": "BLOB",
        "name": "TEXT",
        "in_list": "IN (SELECT value FROM json_each(?))",
    }
    begin = "BEGIN IMMEDIATE"
    begin_reading = "BEGIN"
    errors = (sqlite3.Error,)

    def __init__(self, path: Path | None, key: bytes = b"", *, create: bool = True) -> None:
        super().__init__(key)
        self.path = path
        self._create = create
        self._inode = 0

    def open(self) -> Any:
        if self.path is not None and not self._create and not self.path.exists():
            raise StoreUnavailable(f"there is no store at {self.path}")
        if self.path is not None and not self.path.parent.is_dir():
            raise StoreError(f"the folder {self.path.parent} does not exist; create it, or name another in url")
        where = MEMORY if self.path is None else str(self.path)
        connection = sqlite3.connect(where, timeout=BUSY, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._inode = self._look()
        except BaseException:
            connection.close()
            raise
        return connection

    def check(self) -> None:
        if self._connection is not None and self._look() != self._inode:  # it would be written into nowhere
            raise StoreUnavailable(f"{self.path} was moved or deleted; a new store is begun")

    def _look(self) -> int:
        try:
            return self.path.stat().st_ino if self.path is not None else 0
        except FileNotFoundError:
            return -1

    def reset(self) -> None:
        if self.path is not None:  # memory would be forgotten
            super().reset()

    def in_list(self, items: list[str]) -> Any:
        return json.dumps(items)

    def interrupt(self) -> None:
        with suppress(Exception):
            self._connection.interrupt()
