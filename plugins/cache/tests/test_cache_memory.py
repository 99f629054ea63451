"""The first level alone."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_cache._memory import OVERHEAD, Entry, Memory
from plughost_cache._tags import Tags

KEYS = st.integers(0, 30).map(lambda number: b"%d" % number)


def entry(size: int = 1, *names: str, tags: Tags | None = None) -> Entry:
    taken = (Tags() if tags is None else tags).take(names)
    return Entry(b"x" * size, stored=0.0, fresh_until=1.0, tags=taken, public=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["put", "put", "get", "discard"]), KEYS, st.integers(0, 3000)), max_size=150),
    st.integers(1, 12),
    st.integers(500, 12_000),
)
def test_bounds_hold_and_what_is_found_is_what_was_put(
    steps: list[tuple[str, bytes, int]], most: int, most_bytes: int
) -> None:
    """Never more entries or bytes than allowed, bytes are counted exactly, and a key has its newest entry or none."""
    memory, newest = Memory(max_entries=most, max_bytes=most_bytes), dict[bytes, Entry]()
    for step, key, size in steps:
        if step == "put":
            item = entry(size)
            kept = memory.put(key, item)
            assert kept == (item.size <= most_bytes)
            newest[key] = item
        elif step == "discard":
            memory.discard(key)
            newest.pop(key, None)
        else:
            assert memory.get(key) in (None, newest.get(key))
        found = {**memory._main, **memory._small}
        assert all(newest[key] is item for key, item in found.items())
        assert len(memory) == len(found) <= most
        assert memory.bytes == sum(item.size for item in found.values()) <= most_bytes
        assert memory._small_bytes == sum(item.size for item in memory._small.values())
        assert len(memory._ghosts) <= max(most, 1)


def test_a_scan_does_not_push_out_what_is_asked_for() -> None:
    """A thousand answers that nobody asks for again leave those in place that others keep asking for."""
    memory, hot = Memory(max_entries=100, max_bytes=10**9), [b"hot%d" % number for number in range(50)]
    for _ in range(3):
        for key in hot:
            memory.get(key) or memory.put(key, entry())
    for number in range(1000):
        memory.put(b"scan%d" % number, entry())
    assert all(memory.get(key) for key in hot)


def test_hits_as_often_as_an_lru_where_popularity_is_skewed() -> None:
    """On Zipf-like traffic with a scan in between, it hits more often than least-recently-used of the same size."""
    chance, memory, lru = random.Random(1), Memory(max_entries=100, max_bytes=10**9), dict[bytes, None]()
    ranks = range(1, 2001)
    asked = chance.choices([b"%d" % rank for rank in ranks], [1 / rank for rank in ranks], k=8000)
    asked[4000:4000] = [b"scan%d" % number for number in range(500)]
    hits = old_hits = 0
    for key in asked:
        if memory.get(key):
            hits += 1
        else:
            memory.put(key, entry())
        old_hits += key in lru
        lru.pop(key, None)
        lru[key] = None
        if len(lru) > 100:
            del lru[next(iter(lru))]
    assert hits > old_hits


def test_evictions_are_counted() -> None:
    """What has to go for others counts; what was given up or replaced does not."""
    tags = Tags()
    memory = Memory(max_entries=2, max_bytes=10**9)
    for key in (b"a", b"a", b"b"):
        memory.put(key, entry(1, "t", tags=tags))
    assert memory.evictions == 0
    tags.give_up("t")
    memory.put(b"c", entry())
    memory.put(b"d", entry())
    assert memory.evictions == 0
    memory.put(b"e", entry())
    assert memory.evictions == 1


def test_given_up_is_gone_at_once() -> None:
    """Giving up a tag makes every entry with it unfindable, and others stay."""
    tags, memory = Tags(), Memory(max_entries=9, max_bytes=10**9)
    memory.put(b"a", entry(1, "all", "one", tags=tags))
    memory.put(b"b", entry(1, "all", "two", tags=tags))
    tags.give_up("one")
    assert memory.get(b"a") is None
    assert memory.get(b"b") is not None
    assert memory.bytes == 1 + OVERHEAD


def test_tags_are_forgotten_with_the_last_that_holds_them() -> None:
    """Tags take no memory once nobody holds them: clients invent URIs."""
    tags = Tags()
    held = entry(1, "one", tags=tags)
    entry(1, "two", tags=tags)
    assert len(tags) == 1
    del held
    assert len(tags) == 0


def test_smaller_bounds_keep_what_fits() -> None:
    """Resized, it keeps as many as it may."""
    memory = Memory(max_entries=10, max_bytes=10**9)
    for number in range(10):
        memory.put(b"%d" % number, entry())
    memory.resize(max_entries=4, max_bytes=10**9)
    assert len(memory) == 4
    memory.resize(max_entries=4, max_bytes=OVERHEAD + 1)
    assert len(memory) == 1
    memory.clear()
    assert (len(memory), memory.bytes) == (0, 0)
