"""PostgreSQL: one store for many hosts."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any, ClassVar

from plughost_events._database import Database
from plughost_events._errors import StoreError

CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "plughost-events",
}
SETTINGS = (
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '5s'",  # a host that hangs inside must not hold the chain
    "SET synchronous_commit = on",
)
MAKING = 0x706C756768  # any number; hosts that start together make the tables one after the other


class PostgreSQL(Database):
    """The head row of the chain, locked with `FOR UPDATE`, lets one host at a time extend it."""

    types: ClassVar[dict[str, str]] = {
        "integer": "BIGINT",
        "bytes": "BYTEA",
        "name": 'TEXT COLLATE "C"',
        "in_list": "= ANY(?)",
    }
    begin = "BEGIN"
    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    lock = " FOR UPDATE"
    placeholder = "%s"

    def __init__(self, url: str, key: bytes = b"") -> None:
        super().__init__(key)
        self._url = url

    def open(self) -> Any:
        try:
            import psycopg  # noqa: PLC0415 - an extra, which SQLite does without
        except ImportError as error:
            raise StoreError(
                "a postgresql:// url needs psycopg; run: pip install 'plughost-events[postgresql]'"
            ) from error
        self.errors = (psycopg.Error,)
        connection = psycopg.connect(self._url, autocommit=True, **CONNECT)  # type: ignore[arg-type]  # libpq's words
        try:
            for setting in SETTINGS:
                connection.execute(setting)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        self.run("SELECT pg_advisory_lock(%s)", MAKING)
        try:
            super()._prepare()
        finally:
            with suppress(Exception):
                self.run("SELECT pg_advisory_unlock(%s)", MAKING)

    def in_list(self, items: list[str]) -> Any:
        return items

    def interrupt(self) -> None:
        with suppress(Exception), socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)
