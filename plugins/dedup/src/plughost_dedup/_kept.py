"""Results that are kept a while, within bounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

OVERHEAD = 300
"""Bytes that an entry takes besides its payload, about."""


class Entry(NamedTuple):
    """A result as bytes, and which arguments it belongs to."""

    expires: float
    fingerprint: bytes
    payload: bytes


class Kept:
    """Key → result, for a while; the oldest make room. `now` gives seconds that never go back.

    Bytes, so that nobody can change what is kept, and its size is known.
    """

    def __init__(self, now: Callable[[], float], *, max_entries: int, max_bytes: int) -> None:
        self._now = now
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes held."""
        self.epoch = 0
        """How often it was cleared: what was begun in an earlier epoch is not kept."""
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def get(self, key: bytes) -> Entry | None:
        """What is kept and has not expired."""
        entry = self._entries.get(key)
        if entry is not None and entry.expires <= self._now():
            self._drop(key)
            return None
        return entry

    def put(self, key: bytes, fingerprint: bytes, payload: bytes, *, seconds: float, epoch: int) -> None:
        """Keep a result that was begun in `epoch`; not an empty one, nor one that does not fit."""
        if epoch != self.epoch or not payload or len(payload) + OVERHEAD > self.max_bytes:
            return
        self._drop(key)
        self._entries[key] = Entry(self._now() + seconds, fingerprint, payload)
        self.size += len(payload) + OVERHEAD
        self._make_room()

    def bound(self, *, max_entries: int, max_bytes: int) -> None:
        """Take other bounds."""
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self._make_room()

    def clear(self) -> int:
        """Forget everything, also what is under way; how much it was."""
        count = len(self._entries)
        self._entries.clear()
        self.size = 0
        self.epoch += 1
        return count

    def _make_room(self) -> None:
        now = self._now()
        while self._entries:
            oldest = next(iter(self._entries))
            fits = len(self._entries) <= self.max_entries and self.size <= self.max_bytes
            if fits and self._entries[oldest].expires > now:
                return
            self._drop(oldest)

    def _drop(self, key: bytes) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self.size -= len(entry.payload) + OVERHEAD

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Kept {len(self)} results in {self.size} bytes>"
