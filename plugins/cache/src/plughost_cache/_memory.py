"""The first level: answers in memory, bounded by number and by bytes.

Eviction is S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023). New
entries wait in a small queue; only those asked for again there move to the main one, so that a client which reads a
thousand resources once pushes out nothing that others keep asking for. A hit moves nothing: it counts to three.
"""

from __future__ import annotations

from collections import OrderedDict

from plughost_cache._tags import Tag

OVERHEAD = 600
"""Bytes that an entry costs besides its body: object, key, tags and its places in the tables."""
SMALL = 10
"""The small queue gets one in so many of the bytes and entries."""
MOST_HITS = 3


class Entry:
    """One answer: its bytes, and how long they are good for, on the monotonic clock."""

    __slots__ = ("body", "fresh_until", "hits", "public", "size", "stored", "tags")

    def __init__(self, body: bytes, *, stored: float, fresh_until: float, tags: tuple[Tag, ...], public: bool) -> None:
        self.body = body
        self.size = len(body) + OVERHEAD
        self.stored = stored
        """When it was asked for: the age of what it says."""
        self.fresh_until = fresh_until
        self.tags = tags
        self.public = public
        self.hits = 0

    @property
    def alive(self) -> bool:
        """Whether nothing it depends on was given up."""
        return not any(tag.dead for tag in self.tags)

    def __deepcopy__(self, memo: object) -> Entry:
        return self  # what is handed out is made anew from the bytes

    def __repr__(self) -> str:
        return f"<Entry of {len(self.body)} bytes, {', '.join(tag.name for tag in self.tags)}>"


class Memory:
    """Entries by key, at most `max_entries` of them and `max_bytes` in all."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.bytes = 0
        self.evictions = 0
        """Entries that had to go for others."""
        self._small: OrderedDict[bytes, Entry] = OrderedDict()
        self._main: OrderedDict[bytes, Entry] = OrderedDict()
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._small_bytes = 0

    def get(self, key: bytes) -> Entry | None:
        """The entry of a key, unless something it depends on was given up."""
        entry = self._main.get(key)
        if entry is None:
            entry = self._small.get(key)
            if entry is None:
                return None
        for tag in entry.tags:
            if tag.dead:
                self.discard(key)
                return None
        if entry.hits < MOST_HITS:
            entry.hits += 1
        return entry

    def put(self, key: bytes, entry: Entry) -> bool:
        """Keep an entry in place of what the key had. One that could never fit is not kept."""
        known = key in self._main or self._ghosts.pop(key, self) is None
        self.discard(key)
        if entry.size > self.max_bytes:
            return False
        if known:
            self._main[key] = entry
        else:
            self._small[key] = entry
            self._small_bytes += entry.size
        self.bytes += entry.size
        self._make_room()
        return True

    def discard(self, key: bytes) -> None:
        """Drop the entry of a key, if there is one."""
        entry = self._small.pop(key, None)
        if entry is not None:
            self._small_bytes -= entry.size
        else:
            entry = self._main.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size

    def clear(self) -> None:
        """Drop everything."""
        self._small.clear()
        self._main.clear()
        self._ghosts.clear()
        self.bytes = self._small_bytes = 0

    def resize(self, *, max_entries: int, max_bytes: int) -> None:
        """Set other bounds, and keep what fits."""
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self._make_room()

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    def _make_room(self) -> None:
        while len(self) > self.max_entries or self.bytes > self.max_bytes:
            if self._small and (self._small_is_full or not self._main):
                self._leave_small()
            else:
                self._leave_main()
        while len(self._ghosts) > max(len(self._main), 1):
            self._ghosts.popitem(last=False)

    @property
    def _small_is_full(self) -> bool:
        return len(self._small) * SMALL > self.max_entries or self._small_bytes * SMALL > self.max_bytes

    def _leave_small(self) -> None:
        key, entry = self._small.popitem(last=False)
        self._small_bytes -= entry.size
        if entry.hits and entry.alive:
            entry.hits = 0
            self._main[key] = entry
        else:
            self._ghosts[key] = None
            self._evicted(entry)

    def _leave_main(self) -> None:
        key, entry = self._main.popitem(last=False)
        if entry.hits and entry.alive:
            entry.hits -= 1
            self._main[key] = entry
        else:
            self._evicted(entry)

    def _evicted(self, entry: Entry) -> None:
        self.bytes -= entry.size
        self.evictions += entry.alive
