"""The hash chain: each event's hash covers the event and the hash before it, so that no change goes unseen (G8).

The scheme is that of Schneier and Kelsey, "Secure Audit Logs to Support Computer Forensics" (1999), less the
evolving key. With a key it is an HMAC: who can write the database and not read the key cannot make a chain up.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from plughost_events._event import Row

GENESIS = bytes(32)
"""The hash before the first event."""


def link(previous: bytes, key: bytes, row: Sequence[Any]) -> bytes:
    """The hash of an event, given all its columns but the hash. All lengths are in it: no two events read alike."""
    position, id_, stream, version, type_, schema, time, sealed, data = row
    head = (
        f"{position} {version} {schema} {time} {sealed} {len(id_)} {len(stream)} {len(type_)} {len(data)} "
        f"{id_}{stream}{type_}"
    )
    message = previous + head.encode() + data
    return hmac.digest(key, message, "sha256") if key else sha256(message).digest()


def fingerprint(key: bytes) -> bytes:
    """Tells whether a chain was begun with this key, and nothing of the key; empty without one."""
    return hmac.digest(key, b"plughost events chain", "sha256")[:8] if key else b""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The place that a chain is checked from or up to: a position, and the hash there."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """The anchor that `str()` wrote.

        Raises:
            ValueError: It is none.
        """
        position, _, digest = text.partition(":")
        if not position.isdecimal() or len(digest) != 64:
            raise ValueError(f"{text!r} is not POSITION:HASH, as `plughost events verify` prints it")
        return cls(int(position), bytes.fromhex(digest))


@dataclass(frozen=True, slots=True)
class Fault:
    """An event that is not what was stored, or is missing."""

    position: int
    what: str

    def __str__(self) -> str:
        return f"position {self.position}: {self.what}"


def faults(rows: Iterable[Row], begin: Anchor, end: Anchor, key: bytes) -> Iterator[Fault]:
    """Everything that is wrong with the events after `begin` up to `end`, which must end the chain."""
    position = begin.position
    previous: bytes | None = begin.hash
    for row in rows:
        if row.position > end.position:
            yield Fault(row.position, f"event {row.id} was put behind the end of the chain")
            return
        who = f"event {row.id} ({row.type}, {row.stream} version {row.version})"
        if row.position != position + 1:
            missing = row.position - position - 1
            yield Fault(position + 1, f"{missing} event{'s are' if missing > 1 else ' is'} missing before {who}")
            previous = None
        if previous is not None and link(previous, key, row[:-1]) != row.hash:
            yield Fault(row.position, f"{who} was altered{_or_before(row, begin)}")
        position, previous = row.position, row.hash
    if position != end.position:
        yield Fault(position + 1, f"the events up to position {end.position} are missing")
    elif previous != end.hash:
        yield Fault(position, "the newest event is not the one that the store was left with")


def _or_before(row: Row, begin: Anchor) -> str:
    return "" if row.position == begin.position + 1 else f", or its hash and that of position {row.position - 1}"
