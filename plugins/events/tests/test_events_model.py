"""The store against a model of it: lists in memory, under any sequence of appends by two hosts and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from event_stores import collected, open_store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from plughost_events import NewEvent, VersionConflict
from plughost_events._store import DatabaseStore

HOSTS = st.integers(0, 1)
STREAMS = st.sampled_from(["a", "b", "c"])
IDS = st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True)


class StoreModel(RuleBasedStateMachine):
    """All events are one list of ids; a stream is the events of it, cut at the front by retention."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{self.folder.name}/events.db"
        self.events: list[tuple[str, str, int]] = []  # id, stream, version
        self.pruned = 0
        self.hosts: list[tuple[AsyncExitStack, DatabaseStore]] = []

    def wait(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def enter(self) -> tuple[AsyncExitStack, DatabaseStore]:
        stack = AsyncExitStack()
        return stack, await stack.enter_async_context(open_store(self.url))

    @initialize()
    def start(self) -> None:
        self.hosts = [self.wait(self.enter()), self.wait(self.enter())]

    def version(self, stream: str) -> int:
        return sum(where == stream for _, where, _ in self.events)

    @rule(host=HOSTS, stream=STREAMS, ids=IDS, off=st.one_of(st.none(), st.integers(-1, 1)))
    def append(self, host: int, stream: str, ids: list[int], off: int | None) -> None:
        """With the right version, a wrong one, or none; with ids that are new, and others that are not."""
        known = {id_ for id_, _, _ in self.events[self.pruned :]}
        gone = {id_ for id_, _, _ in self.events[: self.pruned]}
        names = [f"id-{number}" for number in ids if f"id-{number}" not in gone]
        if not names:
            return
        expected = None if off is None else max(self.version(stream) + off, 0)
        fresh = [name for name in names if name not in known]
        work = self.hosts[host][1].append(
            stream, [NewEvent("x", id=name, time=len(self.events)) for name in names], expected_version=expected
        )
        if fresh and expected not in {None, self.version(stream)}:
            with pytest.raises(VersionConflict) as caught:
                self.wait(work)
            assert (caught.value.expected, caught.value.version) == (expected, self.version(stream))
            return
        receipts = self.wait(work)
        for name in fresh:
            self.events.append((name, stream, self.version(stream) + 1))
        places = {id_: (where, position, version) for position, (id_, where, version) in enumerate(self.events, 1)}
        assert [(one.stream, one.position, one.version) for one in receipts] == [places[name] for name in names]

    @rule(host=HOSTS)
    def restart(self, host: int) -> None:
        """One host stops and starts."""
        self.wait(self.hosts[host][0].aclose())
        self.hosts[host] = self.wait(self.enter())

    @rule(host=HOSTS, count=st.integers(0, 3))
    def prune(self, host: int, count: int) -> None:
        """Events older than a time leave, oldest first."""
        left = self.events[self.pruned :]
        if not left:
            return
        rows = self.wait(collected(self.hosts[host][1].read()))
        before = rows[min(count, len(rows) - 1)].time
        wanted = next(number for number, row in enumerate(rows) if row.time >= before)
        assert self.wait(self.hosts[host][1].prune(before, Path(self.folder.name) / "archive")) == wanted
        self.pruned += wanted

    @invariant()
    def both_hosts_see_the_model(self) -> None:
        for _, store in self.hosts:
            events = self.wait(collected(store.read()))
            seen = [(event.position, event.id, event.stream, event.version) for event in events]
            assert seen == [(n, *one) for n, one in enumerate(self.events, 1)][self.pruned :]
            assert not self.wait(store.verify()).faults
            for stream in ("a", "b"):
                assert self.wait(store.version(stream)) == self.version(stream)
                mine = self.wait(collected(store.read_stream(stream)))
                assert [event.id for event in mine] == [event.id for event in events if event.stream == stream]

    def teardown(self) -> None:
        for stack, _ in self.hosts:
            self.wait(stack.aclose())
        self.loop.close()
        self.folder.cleanup()


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
