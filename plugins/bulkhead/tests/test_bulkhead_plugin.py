"""The plugin in a host, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import anyio
import pytest
from mcp import MCPError
from meters import collecting
from plughost import Call, CallNext, ErrorCode, EventType, Host, Middleware, Outcome, Phase, Principal, Result, hookimpl
from plughost import MCPPlugin as Plugin
from plughost_bulkhead import BulkheadConfig, BulkheadPlugin
from plughost_bulkhead._metrics import meter
from plughost_testing import (
    HostFactory,
    Pause,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
    text,
)
from plughost_testing.faults import Disconnect, Error, Faults, Faulty, Hang, Latency, Rule

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


def provider(seconds: float = 1.0, name: str = "notes") -> ScriptedProvider:
    made = ScriptedProvider(name, tools=[f"{name}-add"], resources=[f"{name}://1"])
    made.script(f"{name}-add", [Pause(seconds), text("done")])
    return made


def plugin(**config: Any) -> BulkheadPlugin:
    return BulkheadPlugin(BulkheadConfig.model_validate(config), name="bulkhead")


def call(host: Host, name: str = "notes", **who: str) -> Awaitable[dict[str, Any]]:
    """A call of whoever is named by `tenant` or `subject`, which the tool is told too."""
    principal = Principal(who.get("subject", "ann"), tenant=who.get("tenant")) if who else None
    return host.dispatch(make_call("tools/call", {"name": f"{name}-add", "arguments": who}, principal=principal))


def call_until(host: Host, deadline: float) -> Awaitable[dict[str, Any]]:
    made = make_call("tools/call", {"name": "notes-add", "arguments": {}})
    made.deadline = deadline
    return host.dispatch(made)


def start(host: Host, number: int, name: str = "notes", **who: str) -> list[asyncio.Task[dict[str, Any]]]:
    return [asyncio.ensure_future(call(host, name, **who)) for _ in range(number)]


async def shown(host: Host) -> Any:
    return (await host.run_operation("bulkhead", "show"))["limits"]


async def refusal(calling: Awaitable[object]) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await calling
    assert caught.value.code == ErrorCode.BULKHEAD_FULL
    return caught.value


async def test_limit_is_per_provider(host: HostFactory) -> None:
    """No more than `limit` calls are at one provider; another provider is not concerned."""
    notes, files = provider(), provider(name="files")
    running = await host(plugin(limit=3), providers=[notes, files])
    tasks = start(running, 9)
    await notes.received(3)
    assert len(notes.running) == 3
    await call(running, "files")
    assert len(notes.calls) <= 6
    assert len(await asyncio.gather(*tasks)) == 9
    assert await shown(running) == []


async def test_resources_count_too(host: HostFactory) -> None:
    """A resource that is read takes a slot of the same limit as a tool call."""
    notes = provider()
    running = await host(plugin(limit=1, max_wait=0), providers=[notes])
    (task,) = start(running, 1)
    await notes.received()
    await refusal(running.dispatch(make_call("resources/read", {"uri": "notes://1"})))
    await task


async def test_full_queue_refuses_at_once(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """With slots and queue taken the call is refused without waiting; the refusal says so and when to come again."""
    running = await host(plugin(limit=2, max_queue=2), providers=[provider(4)])
    await call(running)  # so that it is known what a call takes
    tasks = start(running, 4)
    await anyio.sleep(0.5)
    before = virtual_clock.monotonic()
    error = await refusal(call(running))
    assert virtual_clock.monotonic() == before
    assert error.message == (
        "Too many calls at once (provider 'notes'): 2 in flight, and 2 wait already; try again later"
    )
    assert error.data == {
        "reason": "queue_full",
        "limit": 2,
        "per": {"provider": "notes"},
        "waitedMs": 0,
        "retryAfterMs": 6000,  # 4 s a call, three to go, two at a time
    }
    await asyncio.gather(*tasks)


async def test_wait_is_limited(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """A call waits for `max_wait`; then it is refused with another reason, as no timeout of the provider."""
    running = await host(plugin(limit=1, max_wait="2s"), providers=[provider(10)])
    (task,) = start(running, 1)
    await anyio.sleep(1)
    before = virtual_clock.monotonic()
    error = await refusal(call(running))
    assert virtual_clock.monotonic() - before == pytest.approx(2)
    assert (error.data["reason"], error.data["waitedMs"]) == ("wait_limit", 2000)
    assert "none ended within 2 s" in error.message
    assert "retryAfterMs" not in error.data, "no call has ended yet, so nobody knows"
    await task


async def test_never_waits_past_the_deadline(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """A call with a deadline before `max_wait` is refused at its deadline; one whose deadline is over, at once."""
    running = await host(plugin(limit=1, max_wait="5s"), providers=[provider(10)])
    (task,) = start(running, 1)
    await anyio.sleep(1)
    deadline = virtual_clock.monotonic() + 3
    error = await refusal(call_until(running, deadline))
    assert error.data["reason"] == "deadline"
    assert virtual_clock.monotonic() == pytest.approx(deadline, abs=0.02)
    error = await refusal(call_until(running, deadline - 1))
    assert error.data["reason"] == "deadline"
    assert virtual_clock.monotonic() == pytest.approx(deadline, abs=0.02)
    await task


class Impatient(Plugin):
    """Ends each attempt after two seconds, as a timeout does; timers are not exact, and this one is early."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.limit, Phase.PROTECT, before={"bulkhead"})]

    async def limit(self, call: Call, call_next: CallNext) -> Result:
        call.attempt_deadline = anyio.current_time() + 2
        with anyio.fail_after(1.995):
            return await call_next(call)
        raise AssertionError("fail_after() raises")


async def test_is_no_timeout(host: HostFactory) -> None:
    """A call that waits for as long as its attempt may take is refused as that: its provider never got it."""
    notes = provider(1.5)
    running = await host(Impatient(name="timeout"), plugin(limit=1), providers=[notes])
    first, second, third = start(running, 3)
    error = await refusal(third)
    assert error.data["reason"] == "deadline"
    assert len(notes.calls) == 2
    await first
    with pytest.raises(MCPError) as caught:
        await second
    assert caught.value.code != ErrorCode.BULKHEAD_FULL, "this one had its slot, and took too long"


async def test_free_slot_beats_the_deadline(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """Where there is room, the deadline is not this plugin's business."""
    running = await host(plugin(), providers=[provider()])
    assert await call_until(running, virtual_clock.monotonic() - 1)


async def test_no_tenant_starves_another(host: HostFactory) -> None:
    """A tenant with a hundred slow calls does not keep another from its half of the slots."""
    notes = provider(10)
    running = await host(plugin(limit=4, max_wait="1h"), providers=[notes])
    flood = start(running, 100, tenant="loud")
    await notes.received(4)
    quiet = start(running, 4, tenant="quiet")
    await asyncio.gather(*quiet)
    arrived = [item.params["arguments"]["tenant"] for item in notes.calls]
    assert arrived[4:12].count("quiet") >= 3
    for task in flood:
        task.cancel()
    await asyncio.wait(flood)
    assert await shown(running) == []


async def test_parties(host: HostFactory) -> None:
    """Who has no tenant is a party alone; those whom nobody authenticated are one."""
    running = await host(plugin(limit=1), providers=[provider()])
    tasks = [
        *start(running, 1, tenant="acme", subject="ann"),
        *start(running, 1, tenant="acme", subject="bob"),
        *start(running, 1, subject="eve"),
        *start(running, 2),
    ]
    await anyio.sleep(0.5)
    (found,) = await shown(running)
    assert found["parties"] == [
        {"tenant": "acme", "in_flight": 1, "queued": 1},
        {"principal": "eve", "in_flight": 0, "queued": 1},
        {"anonymous": True, "in_flight": 0, "queued": 2},
    ]
    await asyncio.gather(*tasks)


async def test_several_limits(host: HostFactory) -> None:
    """G4: a call holds a slot of each limit or of none: a tenant at its own limit leaves the provider's to others."""
    notes = provider()
    limits = [{"limit": 1, "per": ["tenant"]}, {"limit": 1, "per": ["provider", "principal"]}]
    running = await host(plugin(limit=2, limits=limits), providers=[notes])
    tasks = [*start(running, 2, tenant="a"), *start(running, 1, tenant="b", subject="bob")]
    await notes.received(2)
    assert [item.params["arguments"]["tenant"] for item in notes.calls] == ["a", "b"]
    (first, *_) = await shown(running)
    assert (first["in_flight"], first["queued"]) == (2, 1)
    await asyncio.gather(*tasks)


async def test_per_tool(host: HostFactory) -> None:
    """`per` may name the tool: calls of another tool, and reads, have slots of their own."""
    notes = ScriptedProvider("notes", tools=["slow", "quick"], resources=["notes://1"])
    notes.script("slow", [Pause(5), text("done")])
    running = await host(plugin(limit=1, per=["provider", "tool"], max_wait=0), providers=[notes])
    task = asyncio.ensure_future(running.dispatch(make_call("tools/call", {"name": "slow"})))
    await notes.received()
    await running.dispatch(make_call("tools/call", {"name": "quick"}))
    await running.dispatch(make_call("resources/read", {"uri": "notes://1"}))
    error = await refusal(running.dispatch(make_call("tools/call", {"name": "slow"})))
    assert error.data["per"] == {"provider": "notes", "tool": "slow"}
    await task


@pytest.mark.seeds(5)
async def test_cancelled_waiters_leave_no_permit_behind(host: HostFactory, seed: int) -> None:
    """Calls cancelled while they wait, also in the moment that they get a slot, leave all slots to others."""
    notes = provider()
    running = await host(plugin(limit=2, max_wait="1h"), providers=[notes])
    tasks = start(running, 30)
    await notes.received(2)
    for number, task in enumerate(tasks):
        if number % 3 == seed % 3:
            task.cancel()
        elif number % 3 == (seed + 1) % 3:
            asyncio.get_running_loop().call_later(number / 3, task.cancel)
    await asyncio.wait(tasks)
    assert await shown(running) == []
    assert len(await asyncio.gather(*start(running, 2))) == 2


async def test_slot_handed_to_a_cancelled_call_goes_on(host: HostFactory) -> None:
    """A slot that frees in the very step in which the next in line is cancelled goes to the one after."""
    bulkhead, notes = plugin(limit=1, max_wait="1h"), provider(10)
    running = await host(bulkhead, providers=[notes])
    first, second, third = start(running, 3)
    await anyio.sleep(1)
    second.cancel()
    assert await bulkhead.reconfigure(BulkheadConfig.model_validate({"limit": 2, "max_wait": "1h"}))
    await notes.received(2)
    assert (second.cancelled(), len(notes.running)) == (True, 2)
    await asyncio.gather(first, third)
    assert await shown(running) == []


async def test_full_queue_is_shared(host: HostFactory) -> None:
    """A tenant that fills the queue loses its last place to another one, and is told that the queue is full."""
    running = await host(plugin(limit=1, max_queue=2, max_wait="1h"), providers=[provider(10)])
    *others, last = start(running, 3, tenant="loud")
    await anyio.sleep(1)
    others += start(running, 1, tenant="quiet")
    error = await refusal(last)
    assert (error.data["reason"], error.data["waitedMs"]) == ("queue_full", 1000)
    await asyncio.gather(*others)


async def test_limits_change_live(host: HostFactory) -> None:
    """A higher limit lets those who wait go at once; a lower one ends nothing, and counts what is in flight."""
    bulkhead, notes = plugin(limit=1, max_wait="1h"), provider(10)
    running = await host(bulkhead, providers=[notes])
    tasks = start(running, 6)
    await notes.received(1)
    wide = BulkheadConfig.model_validate({"limit": 4, "max_wait": "1h"})
    assert await bulkhead.reconfigure(wide)
    bulkhead.config = wide
    await notes.received(4)
    assert await bulkhead.reconfigure(BulkheadConfig.model_validate({"limit": 2, "max_wait": "1h"}))
    await anyio.sleep(10.5)
    assert len(notes.running) == 2
    assert [item.outcome for item in notes.calls[:4]] == [Outcome.SUCCESS] * 4
    await asyncio.gather(*tasks)


async def test_other_keys_need_another_instance(host: HostFactory) -> None:
    """What is counted together cannot change in place: calls in flight were counted otherwise."""
    bulkhead = plugin()
    await host(bulkhead, providers=[provider()])
    assert not await bulkhead.reconfigure(BulkheadConfig.model_validate({"per": ["tenant"]}))


async def test_nested_calls_end(host: HostFactory) -> None:
    """A tool that calls its own provider, with all slots held by its like, is refused in time, not stuck for ever."""
    notes = provider()
    running = await host(plugin(limit=1, max_wait="3s"), providers=[notes])

    async def nested(outer: Call, params: Any) -> Result:
        return await call(running)

    notes.script("notes-add", nested, text("done"))
    error = await refusal(call(running))
    assert error.data["reason"] == "wait_limit"
    assert await call(running), "and all slots are back"


async def test_observing_refuses_nothing(host: HostFactory) -> None:
    """With `mode = "observe"` nothing waits or is refused; what would have been is told as an event."""
    notes, events = provider(), RecordingMiddleware(name="events")
    running = await host(events, plugin(limit=1, max_queue=1, mode="observe"), providers=[notes])
    tasks = start(running, 3)
    await notes.received(3)
    assert len(notes.running) == 3
    await asyncio.gather(*tasks)
    types = [event.type for event in events.events]
    assert types.count(EventType.WOULD_REFUSE) == 1
    assert EventType.REFUSED not in types


async def test_refusals_are_told(host: HostFactory) -> None:
    """Each refusal is an event with reason and provider, and no argument (G6)."""
    events = RecordingMiddleware(name="events")
    running = await host(events, plugin(limit=1, max_wait=0), providers=[provider()])
    (task,) = start(running, 1)
    await anyio.sleep(0.5)
    await refusal(call(running))
    await task
    (event,) = [event for event in events.events if event.type == EventType.REFUSED]
    assert event.subject == "bulkhead"
    assert event.details == {"method": "tools/call", "provider": "notes", "code": -32013, "reason": "queue_full"}


@pytest.mark.seeds(3)
async def test_holds_under_chaos(host: HostFactory, seed: int, virtual_clock: VirtualClock) -> None:
    """In front of a provider that fails, hangs, is slow and goes away, the limit holds, and no slot is lost."""
    notes = provider()
    rules = [
        Rule(Latency(3, jitter=5), rate=0.3),
        Rule(Error("no"), rate=0.2),
        Rule(Hang(), rate=0.05),
        Rule(Disconnect(5), rate=0.02),
    ]
    bulkhead = plugin(limit=8, max_queue=50, max_wait="20s", limits=[{"limit": 3, "per": ["tenant"]}])
    running = await host(bulkhead, providers=[Faulty(notes, Faults(rules, seed=seed))])
    most = 0

    async def one(number: int) -> None:
        nonlocal most
        await anyio.sleep(number * 0.05)
        try:
            with anyio.move_on_after(30):
                await call(running, tenant=f"t{number % 5}")
        except MCPError:
            pass
        most = max(most, *(item["in_flight"] for item in await shown(running)), 0)

    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(one, number)
    assert 3 <= most <= 8
    assert await shown(running) == []
    assert bulkhead._bulkhead._lanes
    assert all(not lane.in_flight for lane in bulkhead._bulkhead._lanes.values())


async def test_metrics(host: HostFactory) -> None:
    """They sum by provider what is in flight and waits, and fall to 0 afterwards; tenants are no label."""
    bulkhead = plugin(limit=1, per=["provider", "tenant"])
    where = "plugin=bulkhead provider=notes bulkhead.per=provider tenant"
    with collecting(meter) as collector:
        running = await host(bulkhead, providers=[provider()])
        tasks = [*start(running, 2, tenant="a"), *start(running, 1, tenant="b")]
        await anyio.sleep(0.5)
        assert collector.points() == {
            "plughost.bulkhead.in_flight": {where: 2},
            "plughost.bulkhead.queued": {where: 1},
        }
        await asyncio.gather(*tasks)
        assert collector.points() == {
            "plughost.bulkhead.in_flight": {where: 0},
            "plughost.bulkhead.queued": {where: 0},
        }


async def test_place_in_the_pipeline(host: HostFactory) -> None:
    """It stands innermost in PROTECT: inside retry, breaker and timeout, so that each attempt takes a slot."""
    (layer,) = plugin().plughost_middleware()
    assert layer.phase is Phase.PROTECT
    assert set(layer.after) >= {"retry", "circuit-breaker", "timeout"}
