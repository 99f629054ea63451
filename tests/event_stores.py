"""Stores for tests, without a host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from plughost import SecretBox
from plughost._shared import SystemClock
from plughost_events import Event, EventsURL, NewEvent
from plughost_events._database import Database
from plughost_events._store import DatabaseStore


class Listener:
    """Writes down what a store tells."""

    def __init__(self) -> None:
        self.count = 0
        self.news: list[str] = []
        self.back = asyncio.Event()

    def written(self, count: int) -> None:
        self.count += count

    def down(self, reason: str) -> None:
        self.news.append(f"down: {reason}")

    def up(self) -> None:
        self.news.append("up")
        self.back.set()


class Box:
    """Seals by exclusive or with a key, and binds the context: enough to see that it is used."""

    def __init__(self, key: int = 0x55) -> None:
        self._key = key
        self.tenants: list[str | None] = []

    def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
        self.tenants.append(tenant)
        return len(context).to_bytes(2, "big") + bytes(byte ^ self._key for byte in context + plaintext)

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        plain = bytes(byte ^ self._key for byte in sealed[2:])
        if not plain.startswith(context) or int.from_bytes(sealed[:2], "big") != len(context):
            raise ValueError("another context")
        return plain[len(context) :]


def database(url: str, key: bytes = b"") -> Database:
    return EventsURL(url).database(Path(), key)


@asynccontextmanager
async def open_store(
    url: str,
    *,
    key: bytes = b"",
    box: SecretBox | None = None,
    listener: Listener | None = None,
    limit: int = 10_000,
    patience: float = 10.0,
    poll: float = 0.02,
) -> AsyncIterator[DatabaseStore]:
    """A store, closed in the end."""
    store = DatabaseStore(
        database(url, key),
        None if url.startswith("memory") else database(url, key),
        SystemClock(),
        lambda: box,
        listener or Listener(),
        limit=limit,
        gather=0.001,
        patience=patience,
        poll=poll,
    )
    await store.start()
    try:
        yield store
    finally:
        await store.aclose(5)


def happened(number: int, **more: Any) -> NewEvent:
    """An event with a number."""
    return NewEvent("happened", {"number": number, **more})


async def collected(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def numbers(events: list[Event]) -> list[Any]:
    return [(event.data or {}).get("number") for event in events]


def tamper(url: str, sql: str, *parameters: Any) -> None:
    """Change the tables behind the store's back."""
    intruder = database(url)
    connection = intruder.open()
    try:
        connection.execute(sql.replace("?", intruder.placeholder), parameters)
    finally:
        connection.close()
