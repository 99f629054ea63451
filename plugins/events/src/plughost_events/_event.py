"""What is stored: an event on its way in, the place it got, and an event as it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import orjson
from plughost import SecretBox

LONGEST_NAME = 512
"""Characters of a stream's name, of an event's type, and of its id."""
LARGEST = 2**20
"""Bytes of one event's data."""
_noise = Random()  # noqa: S311 - an id is unique, not secret; asking the system for each takes longer than all the rest
"""Of our own, since tools may seed the one that all share."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_noise.seed)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append. `data` is a JSON object; `schema` counts the revisions of its shape.

    `id` makes appending idempotent: an event whose id is stored already is not stored again. Without one, the event
    gets a new id. `time` is in seconds since the epoch, by default now. `tenant` is whose data it is: where data is
    sealed, it is sealed with that tenant's keys.
    """

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    schema: int = 1
    id: str | None = None
    time: float | None = None
    tenant: str | None = None


class Receipt(NamedTuple):
    """Where an event is stored: the number in the store, and the number in its stream, both from 1 without a gap."""

    id: str
    stream: str
    position: int
    version: int


@dataclass(frozen=True, slots=True)
class Event:
    """An event that is stored. `data` has the newest shape that an upcaster leads to, and `schema` says which.

    `data` is `None` where it is sealed and nobody can open it.
    """

    position: int
    id: str
    stream: str
    version: int
    type: str
    schema: int
    time: float
    data: Mapping[str, Any] | None
    hash: str


class Row(NamedTuple):
    """An event as it lies in the table: `time` in microseconds, `data` as bytes that may be sealed."""

    position: int
    id: str
    stream: str
    version: int
    type: str
    schema: int
    time: int
    sealed: int
    data: bytes
    hash: bytes


class Prepared(NamedTuple):
    """An event on its way to the table, with all columns that are known before its turn comes."""

    id: str
    type: str
    schema: int
    time: int
    sealed: int
    data: bytes


def prepared(stream: str, event: NewEvent, now: float, box: SecretBox | None = None) -> Prepared:
    """The event as bytes, so that nothing the caller does to its data later is stored; sealed, if there is a box.

    Raises:
        ValueError: It cannot be stored, and why.
        SealError: Its tenant's key is gone.
    """
    data = encoded(event.data)
    if len(data) > LARGEST:
        raise ValueError(f"an event of type {event.type!r} has {len(data)} bytes of data; {LARGEST} are the most")
    id_ = new_id(now) if event.id is None else checked("id", event.id)
    time = now if event.time is None else event.time
    if box is not None:
        data = box.seal(data, context=seal_context(stream, id_), tenant=event.tenant)
    return Prepared(id_, checked("type", event.type), event.schema, int(time * 1e6), int(box is not None), data)


def seal_context(*names: str) -> bytes:
    """What a seal is bound to, so that sealed data put elsewhere cannot be opened."""
    return "\0".join(names).encode()


def checked(what: str, name: str) -> str:
    """A name that every database takes.

    Raises:
        ValueError: It is empty, too long, or has characters that cannot be stored.
    """
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(f"{what} {name[:80]!r} must have 1 to {LONGEST_NAME} printable characters")
    return name


def encoded(data: Mapping[str, Any]) -> bytes:
    """JSON. What JSON has no word for, as half of a surrogate pair that a client sent, is replaced, not refused."""
    try:
        return orjson.dumps(data)
    except (TypeError, ValueError):
        return json.dumps(data, default=str, ensure_ascii=False).encode("utf-8", "replace")


def new_id(seconds: float) -> str:
    """A UUID of version 7 (RFC 9562): it begins with the time, so that an index over ids grows at one end."""
    time, noise = f"{int(seconds * 1000):012x}", f"{_noise.getrandbits(72):018x}"
    return f"{time[:8]}-{time[8:]}-7{noise[:3]}-8{noise[3:6]}-{noise[6:]}"


def rfc3339(seconds: float) -> str:
    """A time in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
