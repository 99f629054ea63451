"""Both levels against a model: two processes, one database that fails and forgets, messages that get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from plughost_cache._body import unpack
from plughost_cache._levels import Levels
from plughost_cache._memory import Entry, Memory
from plughost_cache._shared import SharedLevel, Ticket
from plughost_cache._tags import ALL, Tag
from plughost_redis import BackendUnavailable
from plughost_testing import VirtualClock

T = TypeVar("T")
TRUST = 5.0
KEEP = 30.0
WHO = st.integers(0, 1)
WHAT = st.sampled_from(["a", "b"])
SCOPE = st.sampled_from(["ann", "public"])


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")


class FakeStore:
    """A database in a dict."""

    def __init__(self, clock: VirtualClock) -> None:
        self.up = True
        self.values: dict[str, tuple[bytes, float]] = {}
        self.told: list[bytes] = []
        self._clock = clock

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        self._answer()
        now = self._clock.time()
        return [found[0] if (found := self.values.get(key)) and now < found[1] else None for key in keys]

    async def put(self, values: Mapping[str, bytes], ttl: float) -> None:
        self._answer()
        self.values |= {key: (value, self._clock.time() + ttl) for key, value in values.items()}

    async def add(self, values: Mapping[str, bytes], ttl: float) -> list[bytes]:
        there = await self.get(list(values))
        await self.put({key: values[key] for key, old in zip(values, there, strict=True) if not old}, ttl)
        return [found for found in await self.get(list(values)) if found]

    async def tell(self, message: bytes) -> None:
        self._answer()
        self.told.append(message)

    async def check(self) -> None:
        self._answer()

    async def aclose(self) -> None:
        """Nothing to release."""

    def _answer(self) -> None:
        if not self.up:
            raise BackendUnavailable("the database is away")


@dataclass
class Fill:
    """An answer under way."""

    who: int
    what: str
    scope: str
    value: int
    began: float
    tags: tuple[Tag, ...]
    ticket: Ticket | None


def tag(what: str) -> str:
    return f"resource:{what}"


def key(what: str, scope: str) -> bytes:
    return f"{what}/{scope}".encode()


class TwoProcesses(RuleBasedStateMachine):
    """What each resource says now is a number that only grows; what a process may still answer has a lower bound."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.store = FakeStore(self.clock)
        self.processes = [self._process(), self._process()]
        self.truth = {"a": 0, "b": 0}
        self.least = [{"a": 0, "b": 0}, {"a": 0, "b": 0}]
        self.deadlines: list[tuple[float, int, str, int]] = []
        self.unsettled: list[tuple[int, str, int]] = []
        self.under_way: list[Fill] = []

    def _process(self) -> Levels:
        memory = Memory(max_entries=3, max_bytes=10**6)
        shared = SharedLevel(self.store, clock=self.clock, compress_above=10)
        return Levels(memory, clock=self.clock, shared=shared, trust=TRUST)

    @rule(who=WHO, what=WHAT, scope=SCOPE, at_once=st.sampled_from([True, True, False]))
    def ask(self, who: int, what: str, scope: str, at_once: bool) -> None:  # noqa: FBT001 - drawn
        """Look in memory, then in the second level, then ask the provider, which answers at once or later."""
        levels = self.processes[who]
        entry = levels.find(key(what, scope))
        if entry is not None and self.clock.monotonic() < entry.fresh_until:
            self._judge(who, what, scope, entry)
            return
        tags = levels.tags.take((ALL, tag(what)))
        entry, ticket = run(levels.fetch(tags, {f"e:{what}:{scope}": key(what, scope)}))
        if entry is not None:
            self._judge(who, what, scope, entry)
            return
        began = self.clock.monotonic()
        self.under_way.append(Fill(who, what, scope, self.truth[what], began, tags, ticket))
        if at_once:
            self.arrive(-1)

    @precondition(lambda self: self.under_way)
    @rule(index=st.integers(0, 5))
    def arrive(self, index: int) -> None:
        """An answer arrives, with what was true when it was asked for."""
        fill = self.under_way.pop(index % len(self.under_way))
        run(
            self.processes[fill.who].keep(
                {"value": fill.value, "scope": fill.scope, "text": "x" * 20},
                KEEP,
                key=key(fill.what, fill.scope),
                began=fill.began,
                tags=fill.tags,
                public=fill.scope == "public",
                ticket=fill.ticket,
                shared_key=f"e:{fill.what}:{fill.scope}",
            )
        )

    @rule(who=WHO, what=WHAT, heard=st.booleans())
    def change(self, who: int, what: str, heard: bool) -> None:  # noqa: FBT001 - drawn
        """A resource changes, and one process hears of it."""
        self.truth[what] += 1
        self.least[who][what] = self.truth[what]
        self.processes[who].give_up([tag(what)])
        self.unsettled.append((who, what, self.truth[what]))
        self.settle(who=who, heard=heard)

    @rule(who=WHO, heard=st.booleans())
    def settle(self, who: int, heard: bool) -> None:  # noqa: FBT001 - drawn
        """What is owed is paid, if the database is there; the other process is told, or the message gets lost."""
        settled = run(self.processes[who].settle())
        assert settled == (self.store.up or not [item for item in self.unsettled if item[0] == who])
        if settled:
            other = 1 - who
            for _, what, value in [item for item in self.unsettled if item[0] == who]:
                if heard:
                    self.least[other][what] = max(self.least[other][what], value)
                else:
                    self.deadlines.append((self.clock.monotonic() + TRUST, other, what, value))
            self.unsettled = [item for item in self.unsettled if item[0] != who]
            for message in self.store.told:
                for levels in self.processes if heard else [self.processes[who]]:
                    levels.heard(message)
        self.store.told.clear()

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.9, 5.1, 29.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        for deadline, who, what, value in self.deadlines:
            if self.clock.monotonic() >= deadline:
                self.least[who][what] = max(self.least[who][what], value)

    @rule(harm=st.sampled_from(["away", "empty", "v:", "e:"]))
    def harm(self, harm: str) -> None:
        """The database goes away or comes back, loses all it has, or evicts some versions or answers."""
        if harm == "away":
            self.store.up = not self.store.up
        elif harm == "empty":
            self.store.values.clear()
        else:
            for each in [each for each in self.store.values if each.startswith(harm)][::2]:
                del self.store.values[each]

    def _judge(self, who: int, what: str, scope: str, entry: Entry) -> None:
        said = unpack(entry.body)
        least = self.least[who][what]
        assert said["scope"] == scope, f"{scope} was given the answer of {said['scope']}"
        assert least <= said["value"] <= self.truth[what], f"process {who} says {said['value']}, not at least {least}"
        assert self.clock.monotonic() - entry.stored < KEEP, "it is too old"
        assert entry.public == (scope == "public")


TestTwoProcesses = TwoProcesses.TestCase
TestTwoProcesses.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


class BusyStore(FakeStore):
    """Lets others run before it answers."""

    async def put(self, values: Mapping[str, bytes], ttl: float) -> None:
        await asyncio.sleep(0)
        await super().put(values, ttl)


@pytest.mark.anyio
async def test_two_who_settle_at_once_give_up_once(virtual_clock: VirtualClock) -> None:
    """The operator's command and the task in the background: what others store after the first is not lost."""
    store = BusyStore(virtual_clock)
    shared = SharedLevel(store, clock=virtual_clock, compress_above=1000)
    levels = Levels(Memory(max_entries=10, max_bytes=10_000), clock=virtual_clock, shared=shared, trust=TRUST)
    levels.give_up(["a"])
    assert all(await asyncio.gather(levels.settle(), levels.settle()))
    assert len(store.told) == 1


def _shared(clock: VirtualClock) -> tuple[FakeStore, Callable[[], Levels]]:
    store = FakeStore(clock)

    def process() -> Levels:
        memory = Memory(max_entries=9, max_bytes=10**6)
        return Levels(memory, clock=clock, shared=SharedLevel(store, clock=clock, compress_above=10), trust=TRUST)

    return store, process


def test_an_answer_of_one_process_serves_another(virtual_clock: VirtualClock) -> None:
    """It is moved into memory there, and ages on."""
    _, process = _shared(virtual_clock)
    first, second = process(), process()
    tags = first.tags.take((ALL, "t"))
    _, ticket = run(first.fetch(tags, {"e:1": b"k"}))
    result = {"text": "x", "ttlMs": 30_000}
    run(
        first.keep(
            result,
            KEEP,
            key=b"k",
            began=virtual_clock.monotonic(),
            tags=tags,
            public=True,
            ticket=ticket,
            shared_key="e:1",
        )
    )
    virtual_clock.advance(10)
    entry, _ = run(second.fetch(second.tags.take((ALL, "t")), {"e:1": b"k"}))
    assert entry is not None
    assert (unpack(entry.body), entry.public) == (result, True)
    assert virtual_clock.monotonic() - entry.stored == 10
    assert entry.fresh_until == virtual_clock.monotonic() + TRUST
    assert second.find(b"k") is entry


def test_unreadable_answers_are_misses(virtual_clock: VirtualClock) -> None:
    """Whatever somebody wrote into the database: it is counted, and the provider is asked."""
    store, process = _shared(virtual_clock)
    levels = process()
    assert levels.shared is not None
    tags = levels.tags.take((ALL,))
    run(levels.fetch(tags, {"e:1": b"k"}))
    store.values["e:1"] = (b"noise", virtual_clock.time() + 9)
    entry, ticket = run(levels.fetch(tags, {"e:1": b"k"}))
    assert (entry, levels.shared.unreadable) == (None, 1)
    assert ticket is not None


def _fetched(levels: Levels) -> object:
    """What the second level says."""
    levels.memory.clear()
    entry, _ = run(levels.fetch(levels.tags.take((ALL, "t")), {"e:1": b"k"}))
    return None if entry is None else unpack(entry.body)["value"]


def _stored(levels: Levels, clock: VirtualClock, value: str) -> None:
    """Ask, and keep the answer."""
    tags = levels.tags.take((ALL, "t"))
    _, ticket = run(levels.fetch(tags, {"e:1": b"k"}))
    where: dict[str, Any] = {"key": b"k", "began": clock.monotonic(), "shared_key": "e:1"}
    run(levels.keep({"value": value}, KEEP, tags=tags, public=True, ticket=ticket, **where))
    assert _fetched(levels) == value


def test_nothing_is_read_before_what_is_owed_is_paid(virtual_clock: VirtualClock) -> None:
    """What was given up while the database was away is still there when it is back, and is not believed."""
    store, process = _shared(virtual_clock)
    levels = process()
    _stored(levels, virtual_clock, "old")
    store.up = False
    levels.give_up(["t"])
    assert run(levels.settle()) is False
    store.up = True
    assert _fetched(levels) is None
    assert run(levels.settle()) is True
    assert _fetched(levels) is None
    _stored(levels, virtual_clock, "new")


def test_what_is_given_up_again_while_it_is_paid_is_owed_again(virtual_clock: VirtualClock) -> None:
    """A change during the payment for the one before gets a payment of its own."""
    store, process = _shared(virtual_clock)
    levels = process()
    assert levels.shared is not None
    put = store.put

    async def put_and_change(values: Mapping[str, bytes], ttl: float) -> None:
        await put(values, ttl)
        store.put = put  # type: ignore[method-assign]  # the next one is as before
        levels.give_up(["t"])

    store.put = put_and_change  # type: ignore[method-assign]  # for one payment
    levels.give_up(["t"])
    run(levels.settle())
    assert levels.shared.owed
    run(levels.settle())
    assert not levels.shared.owed


def test_a_version_that_was_lost_revives_nothing(virtual_clock: VirtualClock) -> None:
    """The database evicts versions, not answers: those are from nobody knows when, and not believed."""
    store, process = _shared(virtual_clock)
    levels = process()
    _stored(levels, virtual_clock, "old")
    for _ in range(2):
        for each in [each for each in store.values if each.startswith("v:")]:
            del store.values[each]
        assert _fetched(levels) is None
