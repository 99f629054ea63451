"""The bus alone: what replicas tell each other, over a broker in memory that can be cut off. Time is virtual."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.subscriptions import PromptsListChanged, ResourceUpdated, ServerEvent, ToolsListChanged
from plughost import HostEvent
from plughost_bus._message import LISTS, Message
from plughost_bus._replicas import ANSWER_LIMIT, BEAT, SILENCE, Bus
from plughost_redis import BackendUnavailable, RedisBackend
from plughost_testing import VirtualClock, run

pytestmark = pytest.mark.anyio

NOTE = "note://1"
CHANNEL = "test:replicas"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> Any:
    return virtual_clock.backend


class Broker:
    """Delivers what is published to every line that is up, itself included, as Redis does."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.published: list[Message] = []

    def line(self) -> Line:
        found = Line(self)
        self.lines.append(found)
        return found


class Line:
    """One replica's connection: of a `RedisBackend` what the bus needs."""

    url = "redis://broker"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.up = True
        self.refuses: Exception | None = None
        self._back = asyncio.Event()
        self._callbacks: tuple[Callable[[bytes], object], Callable[[], object]] | None = None

    def key(self, name: str) -> str:
        return f"test:{name}"

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        self._callbacks = None

    def subscribe(self, channel: str, on_message: Callable[[bytes], object], on_reset: Callable[[], object]) -> None:
        assert channel == CHANNEL
        self._callbacks = on_message, on_reset
        if self.up:
            asyncio.get_running_loop().call_soon(on_reset)

    async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        await asyncio.sleep(0.001)
        if not self.up:
            raise BackendUnavailable("the line is cut")
        if self.refuses is not None:
            raise self.refuses
        return await work(self)

    async def publish(self, channel: str, data: bytes) -> int:
        assert channel == CHANNEL
        message = Message.decode(data)
        assert message is not None
        self.broker.published.append(message)
        return sum(line.deliver(data) for line in self.broker.lines)

    def deliver(self, data: bytes) -> bool:
        if not self.up or self._callbacks is None:
            return False
        self._callbacks[0](data)
        return True

    async def wait_until_up(self) -> None:
        while not self.up:
            await self._back.wait()

    def cut(self) -> None:
        self.up = False
        self._back.clear()

    def mend(self) -> None:
        if not self.up:
            self.up = True
            self._back.set()
            if self._callbacks is not None:
                self._callbacks[1]()


class Replica:
    """A bus, what its listener heard, and what its host did."""

    def __init__(self, name: str, line: Line, clock: VirtualClock, max_watched: int = 1000) -> None:
        self.line = line
        self.bus = Bus(name, self, clock=clock, backend=cast("RedisBackend", line), max_watched=max_watched)
        self.heard: list[ServerEvent] = []
        self.refreshed: list[set[str]] = []
        self.watching: frozenset[str] = frozenset()
        self.events: list[HostEvent] = []
        self.slow = 0.0
        self.bus.subscribe(self.heard.append)

    async def sync(self) -> None:
        await asyncio.sleep(self.slow)
        self.watching = self.bus.watched

    async def refresh(self, lists: set[str]) -> None:
        self.refreshed.append(lists)

    def told(self, event: HostEvent) -> None:
        self.events.append(event)

    def forget(self) -> None:
        self.heard.clear()
        self.refreshed.clear()


@asynccontextmanager
async def replicas(clock: VirtualClock, count: int = 2, **options: Any) -> AsyncIterator[list[Replica]]:
    broker = Broker()
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            replica = Replica(f"r{number}", broker.line(), clock, **options)
            await replica.bus.start()
            stack.push_async_callback(replica.bus.aclose)
            found.append(replica)
        await asyncio.sleep(0.1)
        yield found


async def test_others_hear(virtual_clock: VirtualClock) -> None:
    """A change is told here at once and there a moment later; each hears it once, and nobody sends it on."""
    async with replicas(virtual_clock, 3) as (one, two, three):
        sent = len(one.line.broker.published)
        await one.bus.publish(ToolsListChanged())
        assert (one.heard, two.heard) == ([ToolsListChanged()], [])
        await asyncio.sleep(0.1)
        assert one.heard == two.heard == three.heard == [ToolsListChanged()]
        assert len(one.line.broker.published) == sent + 1


async def test_lists_are_asked_for_before_clients_are_told(virtual_clock: VirtualClock) -> None:
    """A changed list elsewhere has the providers asked again first; a changed resource does not."""
    async with replicas(virtual_clock) as (one, two):
        told_when_refreshed: list[int] = []
        two.bus.subscribe(lambda _: told_when_refreshed.append(len(two.refreshed)))
        await one.bus.publish(PromptsListChanged())
        await asyncio.sleep(0.1)
        await one.bus.publish(ResourceUpdated(NOTE))
        await asyncio.sleep(0.1)
        assert two.refreshed == [{"prompts"}]
        assert told_when_refreshed == [1, 1]
        assert one.refreshed == []


async def test_a_burst_is_one_message(virtual_clock: VirtualClock) -> None:
    """Changes that wait for the same message go together, each once."""
    async with replicas(virtual_clock) as (one, two):
        sent = len(one.line.broker.published)
        for number in range(100):
            await one.bus.publish(ResourceUpdated(f"note://{number % 10}"))
        await asyncio.sleep(0.1)
        assert set(two.heard) == {ResourceUpdated(f"note://{number}") for number in range(10)}
        assert len(one.line.broker.published) - sent < 100


async def test_nothing_is_lost_while_it_cannot_be_sent(virtual_clock: VirtualClock) -> None:
    """A replica that is cut off tells its own clients at once, and the others when it is back."""
    async with replicas(virtual_clock) as (one, two):
        one.line.cut()
        await one.bus.publish(ResourceUpdated(NOTE))
        await asyncio.sleep(60)
        assert one.heard == [ResourceUpdated(NOTE)]
        assert (two.heard, one.bus.unsent) == ([], 1)
        one.line.mend()
        await asyncio.sleep(0.1)
        assert (two.heard, one.bus.unsent) == ([ResourceUpdated(NOTE)], 0)


async def test_memory_is_bounded_while_cut_off(virtual_clock: VirtualClock) -> None:
    """Ten thousand changes that cannot be sent become one: look again at everything."""
    async with replicas(virtual_clock) as (one, two):
        await two.bus.watch(frozenset({NOTE}))
        one.line.cut()
        for number in range(25_000):
            await one.bus.publish(ResourceUpdated(f"note://{number}"))
        assert one.bus.unsent <= 10_000
        one.line.mend()
        await asyncio.sleep(0.5)
        assert {*LISTS.values(), ResourceUpdated(NOTE)} <= set(two.heard)


async def test_a_gap_is_made_up_for(virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Who may have missed something tells its clients to look again at all they watch; the others are left in peace."""
    async with replicas(virtual_clock) as (one, two):
        await two.bus.watch(frozenset({NOTE}))
        two.line.cut()
        await one.bus.publish(ResourceUpdated(NOTE))
        await asyncio.sleep(1)
        assert two.heard == []
        one.forget()
        with caplog.at_level(logging.WARNING):
            two.line.mend()
            await asyncio.sleep(0.1)
        assert two.heard == [*LISTS.values(), ResourceUpdated(NOTE)]
        assert two.refreshed == [{"tools", "prompts", "resources"}]
        assert (two.bus.counts.resyncs, one.heard) == (1, [])
        assert "may have been missed" in caplog.text


async def test_a_start_is_no_gap(virtual_clock: VirtualClock) -> None:
    """Nobody can have missed anything before the first subscription, unless it came late."""
    async with replicas(virtual_clock) as (one, _):
        assert (one.heard, one.bus.counts.resyncs) == ([], 0)
        late = one.line.broker.line()
        late.cut()
        replica = Replica("late", late, virtual_clock)
        await replica.bus.start()
        late.mend()
        await asyncio.sleep(0.1)
        assert replica.bus.counts.resyncs == 1
        await replica.bus.aclose()


async def test_what_is_watched_is_watched_everywhere(virtual_clock: VirtualClock) -> None:
    """When `watch` returns, the providers of the other replicas have been asked too."""
    async with replicas(virtual_clock, 3) as (one, two, three):
        two.slow = 0.2
        await one.bus.watch(frozenset({NOTE}))
        assert two.watching == three.watching == {NOTE}
        assert one.watching == set()
        await one.bus.watch(frozenset())
        await asyncio.sleep(BEAT + 1)
        assert two.watching == three.watching == set()


async def test_nobody_waits_long_for_an_answer(virtual_clock: VirtualClock) -> None:
    """A replica that hangs holds up a new listener for half a second, and one that is cut off for nothing."""
    async with replicas(virtual_clock) as (one, two):
        two.slow = 60
        began = virtual_clock.monotonic()
        await one.bus.watch(frozenset({NOTE}))
        assert virtual_clock.monotonic() - began == pytest.approx(ANSWER_LIMIT, abs=0.05)
        one.line.cut()
        began = virtual_clock.monotonic()
        await one.bus.watch(frozenset({NOTE, "note://2"}))
        assert virtual_clock.monotonic() - began < 0.01


async def test_two_new_listeners_wait_for_each_other_in_vain_nowhere(virtual_clock: VirtualClock) -> None:
    """Replicas that begin to watch at the same time answer each other."""
    async with replicas(virtual_clock) as (one, two):
        began = virtual_clock.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.bus.watch, frozenset({"note://1"}))
            tasks.start_soon(two.bus.watch, frozenset({"note://2"}))
        assert virtual_clock.monotonic() - began < 0.1
        assert [one.watching, two.watching] == [{"note://2"}, {"note://1"}]


async def test_a_newcomer_learns_what_is_watched(virtual_clock: VirtualClock) -> None:
    """Who joins is told at once what the others watch, and who leaves watches nothing any more."""
    async with replicas(virtual_clock) as (one, _):
        await one.bus.watch(frozenset({NOTE}))
        newcomer = Replica("new", one.line.broker.line(), virtual_clock)
        await newcomer.bus.start()
        await asyncio.sleep(0.1)
        assert newcomer.watching == {NOTE}
        await newcomer.bus.watch(frozenset({"note://2"}))
        assert one.watching == {"note://2"}
        await newcomer.bus.aclose()
        await asyncio.sleep(0.1)
        assert one.watching == set()


async def test_a_silent_replica_is_forgotten(virtual_clock: VirtualClock) -> None:
    """What a replica that crashed watched is watched for half a minute longer, not for ever."""
    async with replicas(virtual_clock) as (one, two):
        await two.bus.watch(frozenset({NOTE}))
        assert one.watching == {NOTE}
        two.line.cut()
        await asyncio.sleep(BEAT)
        assert one.watching == {NOTE}
        await asyncio.sleep(SILENCE + BEAT)
        assert not one.watching
        assert not one.bus.peers


async def test_what_one_replica_asks_for_is_bounded(virtual_clock: VirtualClock) -> None:
    """A replica shares, and takes from another, so many resources and no more."""
    uris = frozenset(f"note://{number}" for number in range(20))
    async with replicas(virtual_clock, max_watched=5) as (one, two):
        await one.bus.watch(uris)
        await one.bus.watch(uris)
        assert len(one.bus.here) == len(two.watching) == 5
        two.bus._receive(Message("watch", "greedy", uris=tuple(uris)).encode())
        two.bus._receive(Message("here", "greedy", uris=tuple(uris)).encode())
        assert len(two.bus.peers["greedy"].uris) == 5


async def test_host_events_are_marked(virtual_clock: VirtualClock) -> None:
    """An event of another replica has a type and a replica of its own, and is not sent on."""
    async with replicas(virtual_clock) as (one, two):
        one.bus.relay(HostEvent("breaker.opened", "search", {"reason": "lost"}))
        await asyncio.sleep(0.1)
        assert two.events == [HostEvent("replica.breaker.opened", "search", {"reason": "lost", "replica": "r0"})]
        two.bus.relay(two.events[0])
        await asyncio.sleep(0.1)
        assert one.events == []


@pytest.mark.parametrize("junk", [b"", b"[]", b"{", b"\xff", b'{"v": 2, "kind": "gone", "sender": "a"}', b'{"v": 1}'])
async def test_what_is_no_message_is_counted(virtual_clock: VirtualClock, junk: bytes) -> None:
    """Whatever else is published on the channel harms nothing."""
    async with replicas(virtual_clock) as (one, _):
        one.bus._receive(junk)
        assert one.bus.counts.unreadable == 1


async def test_a_refused_message_is_sent_again(virtual_clock: VirtualClock) -> None:
    """A server that refuses to publish, as a replica of Redis does, is asked again."""
    async with replicas(virtual_clock) as (one, two):
        one.line.refuses = RuntimeError("READONLY")
        await one.bus.publish(ToolsListChanged())
        await one.bus.watch(frozenset({NOTE}))
        await asyncio.sleep(3)
        one.line.refuses = None
        await asyncio.sleep(2)
        assert two.heard == [ToolsListChanged()]


async def test_a_failing_listener_is_alone(virtual_clock: VirtualClock) -> None:
    """A listener that raises keeps no other from hearing."""

    def fails(_: ServerEvent) -> None:
        raise RuntimeError("no")

    async with replicas(virtual_clock) as (one, two):
        for replica in (one, two):
            unsubscribe = replica.bus.subscribe(fails)
            replica.bus._listeners = dict(reversed(replica.bus._listeners.items()))
        await one.bus.publish(ToolsListChanged())
        await asyncio.sleep(0.1)
        assert one.heard == two.heard == [ToolsListChanged()]
        unsubscribe()
        unsubscribe()


async def test_without_a_backend(virtual_clock: VirtualClock) -> None:
    """In memory the bus is that of one process."""
    heard: list[ServerEvent] = []
    replica = Replica("alone", Broker().line(), virtual_clock)
    bus = Bus("alone", replica, clock=virtual_clock)
    bus.subscribe(heard.append)
    await bus.start()
    await bus.watch(frozenset({NOTE}))
    await bus.publish(ResourceUpdated(NOTE))
    bus.relay(HostEvent("a", "b"))
    assert heard == [ResourceUpdated(NOTE)]
    assert (len(bus.watched), bus.unsent) == (0, 0)
    await bus.aclose()


STEPS = st.lists(
    st.tuples(st.sampled_from(["publish", "cut", "mend", "wait"]), st.integers(0, 2), st.integers(0, 2)), max_size=25
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_no_change_is_ever_missed(steps: list[tuple[str, int, int]]) -> None:
    """However lines break: once they are mended, every replica has heard of each change after it happened."""
    clock = VirtualClock()
    uris = [f"note://{number}" for number in range(3)]

    async def main() -> None:
        async with replicas(clock, 3) as found:
            for replica in found:
                await replica.bus.watch(frozenset(uris))
            pending: dict[tuple[int, str], int] = {}
            for step, who, what in steps:
                replica = found[who]
                match step:
                    case "publish":
                        await replica.bus.publish(ResourceUpdated(uris[what]))
                        for number, other in enumerate(found):
                            if other is not replica:
                                pending[number, uris[what]] = len(other.heard)
                    case "cut":
                        replica.line.cut()
                    case "mend":
                        replica.line.mend()
                    case _:
                        await asyncio.sleep(0.05)
            for replica in found:
                replica.line.mend()
            await asyncio.sleep(5)
            for (number, uri), seen in pending.items():
                assert ResourceUpdated(uri) in found[number].heard[seen:]

    run(main, clock=clock)
