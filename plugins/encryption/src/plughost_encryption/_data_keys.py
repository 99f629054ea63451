"""A random data key for each tenant, in a file, each encrypted by the newest key of the ring.

The file is all that makes a tenant's data readable: deleting a row erases it, in every process that uses the file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from plughost import SealError

from plughost_encryption._keys import ID, Master

FORMAT = 1
"""Written into the file as `user_version`."""
PATIENCE = 5.0
"""Seconds to wait for another process that writes."""
_SCHEMA = f"""
    BEGIN EXCLUSIVE;
    CREATE TABLE IF NOT EXISTS data_key (
        tenant TEXT PRIMARY KEY, id BLOB NOT NULL UNIQUE, created REAL NOT NULL,
        master BLOB NOT NULL, wrapped BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS master (id BLOB PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = {FORMAT};
    COMMIT;
"""


class DataKeys:
    """The file. `tenant` is `""` for what belongs to none. Not for several threads at once.

    Raises:
        SealError: From every method: the file cannot be read, was altered, or needs a key that is not in the ring.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._masters: Mapping[bytes, Master] = {}
        self._newest: Master | None = None
        with self._reading():
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            self._opened = os.fstat(handle)
            os.close(handle)
            self._database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            with self._reading():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        self._database.execute("PRAGMA secure_delete = ON")  # a dropped key is overwritten, not only unlinked
        self._database.execute("PRAGMA synchronous = FULL")
        found = self._one("PRAGMA user_version")[0]
        if found not in {0, FORMAT}:
            raise SealError(f"{self.path} has format {found}, and not {FORMAT}; it was made by a newer version")
        self._database.executescript(_SCHEMA)
        self._version = self._one("PRAGMA data_version")[0]

    def close(self) -> None:
        self._database.close()

    def changed(self) -> bool:
        """Whether another process changed the file since this was asked before."""
        with self._reading():
            version = self._one("PRAGMA data_version")[0]
        changed, self._version = version != self._version, version
        return bool(changed)

    def use(self, masters: Sequence[Master], now: float) -> None:
        """Wrap by the first of these from now on, also what another one of them has wrapped; all or nothing."""
        known = {master.id: master for master in masters}
        newest = masters[0]
        with self._writing():
            rows = self._database.execute("SELECT * FROM data_key WHERE master != ?", (newest.id,)).fetchall()
            for tenant, key_id, _, master, wrapped in rows:
                key = _unwrap(known, tenant, key_id, master, wrapped)
                again = newest.wrap(key, _context(tenant, key_id)), newest.id, key_id
                self._database.execute("UPDATE data_key SET wrapped = ?, master = ? WHERE id = ?", again)
            for master in masters:
                self._database.execute("INSERT OR IGNORE INTO master VALUES (?, ?)", (master.id, now))
        self._masters, self._newest = known, newest

    def of(self, tenant: str, now: float) -> tuple[bytes, bytes]:
        """Id and key of a tenant, made if there is none."""
        assert self._newest is not None
        with self._reading():
            row = self._one("SELECT * FROM data_key WHERE tenant = ?", tenant)
        if row is None:
            key_id, key = secrets.token_bytes(ID), secrets.token_bytes(32)
            wrapped = self._newest.wrap(key, _context(tenant, key_id))
            with self._writing():
                values = (tenant, key_id, now, self._newest.id, wrapped)
                self._database.execute("INSERT OR IGNORE INTO data_key VALUES (?, ?, ?, ?, ?)", values)
                row = self._one(
                    "SELECT * FROM data_key WHERE tenant = ?", tenant
                )  # another process may have been first
        return row[1], _unwrap(self._masters, row[0], row[1], row[3], row[4])

    def find(self, key_id: bytes) -> bytes | None:
        """The key of an id; `None` if it is gone."""
        with self._reading():
            row = self._one("SELECT * FROM data_key WHERE id = ?", key_id)
        return None if row is None else _unwrap(self._masters, row[0], row[1], row[3], row[4])

    def drop(self, tenant: str) -> bool:
        """Delete the key of a tenant. Says whether there was one."""
        with self._writing():
            return self._database.execute("DELETE FROM data_key WHERE tenant = ?", (tenant,)).rowcount > 0

    def count(self) -> int:
        """How many keys there are, in the file that still is where it was opened."""
        with self._reading():
            if not os.path.samestat(self._opened, self.path.stat()):
                raise SealError(f"{self.path} was replaced while it was open: its keys are not used; restart the host")
            return int(self._one("SELECT COUNT(*) FROM data_key")[0])

    def since(self, master: Master) -> float:
        """When a key of the ring was first used with this file."""
        with self._reading():
            return float(self._one("SELECT since FROM master WHERE id = ?", master.id)[0])

    def newest(self, limit: int) -> list[tuple[str, bytes, float]]:
        """Tenant, id and time of the keys made last."""
        with self._reading():
            query = "SELECT tenant, id, created FROM data_key ORDER BY created DESC, tenant LIMIT ?"
            return self._database.execute(query, (limit,)).fetchall()

    def _one(self, query: str, *arguments: object) -> Any:
        return self._database.execute(query, arguments).fetchone()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise SealError(f"the data keys in {self.path} cannot be used: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._reading():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def _context(tenant: str, key_id: bytes) -> bytes:
    return key_id + tenant.encode()


def _unwrap(masters: Mapping[bytes, Master], tenant: str, key_id: bytes, master: bytes, wrapped: bytes) -> bytes:
    if master not in masters:
        raise SealError(
            f"a data key is wrapped by the key {master.hex()}, which is not in the ring; put it back at its end"
        )
    try:
        return masters[master].unwrap(wrapped, _context(tenant, key_id))
    except InvalidTag:
        raise SealError(f"the data key {key_id.hex()} was altered; restore the file from a backup") from None
