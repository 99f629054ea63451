"""The plugin in the pipeline: who is told what when time runs out."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp.server.mcpserver import MCPServer
from plughost import Call, CallNext, ErrorCode, EventType, Host, MCPPlugin, Middleware, Outcome, Phase, Refusal, Result
from plughost_testing import (
    Hang,
    Line,
    Pause,
    Progress,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
    make_host,
    text,
)
from plughost_timeout import TimeoutConfig, TimeoutPlugin

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["echo", "report"], resources=["note://1"])


@asynccontextmanager
async def hosting(
    provider: object, clock: VirtualClock, *plugins: MCPPlugin[Any], **config: Any
) -> AsyncIterator[Host]:
    plugin = TimeoutPlugin(TimeoutConfig.model_validate(config), name="timeout")
    async with make_host(plugin, *plugins, providers=[provider], clock=clock) as host:
        yield host


async def refused(host: Host, call: Call) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await host.dispatch(call)
    assert caught.value.code == ErrorCode.TIMEOUT
    return caught.value


def echo(tool: str = "echo", **more: Any) -> Call:
    return make_call("tools/call", {"name": tool, "arguments": {}}, **more)


Around = Callable[[Call, CallNext], Awaitable[Result]]


def layer(name: str, handle: Around, *, before: str = "", after: str = "") -> MCPPlugin:
    """A plugin that stands in PROTECT around or inside the timeouts."""
    plugin = RecordingMiddleware(name=name)
    edges = {"before": {before} if before else (), "after": {after} if after else ()}
    plugin._middleware = Middleware(handle, Phase.PROTECT, **edges)
    return plugin


async def test_an_attempt_that_takes_too_long_is_refused(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """The refusal says which limit ran out, its value and the remedy; the provider's request was cancelled."""
    provider.script("echo", Hang())
    async with hosting(provider, virtual_clock, attempt="2s") as host:
        began = virtual_clock.monotonic()
        refusal = await refused(host, echo())
    assert virtual_clock.monotonic() - began == 2
    problem, _, remedy = refusal.message.partition(". ")
    assert problem == "'echo' did not answer within 2 s, the limit of one attempt"
    assert remedy == "Ask for less, or raise attempt in [plugins.timeout]"
    assert refusal.data == {"limit": "attempt", "limitMs": 2000, "provider": "notes", "target": "echo"}
    assert provider.calls[0].outcome is Outcome.CANCELLED


async def test_progress_extends_nothing(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """T8: the limits hold even while progress notifications arrive."""
    provider.script("echo", [step for number in range(100) for step in (Pause(1), Progress(number))])
    line = Line()
    async with hosting(provider, virtual_clock, attempt="none", total="5s") as host:
        began = virtual_clock.monotonic()
        refusal = await refused(host, echo(line=line))
    assert refusal.data["limit"] == "total"
    assert virtual_clock.monotonic() - began == 5
    assert 4 <= len(line.sent) <= 5


async def retry(call: Call, call_next: CallNext) -> Result:
    """Try again and again, a second apart, until the deadline."""
    while True:
        try:
            return await call_next(call)
        except Refusal as refusal:
            if refusal.data and refusal.data["limit"] == "total":
                raise
            await anyio.sleep(1)


async def test_the_total_covers_all_attempts(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Attempts and the waiting between them end at the total; the last attempt gets what is left of it."""
    provider.script("echo", Hang())
    async with hosting(provider, virtual_clock, layer("retry", retry), attempt="3s", total="10s") as host:
        began = virtual_clock.monotonic()
        refusal = await refused(host, echo())
    assert virtual_clock.monotonic() - began == 10
    assert refusal.data["limit"] == "total"
    assert refusal.data["limitMs"] == 10_000
    assert len(provider.calls) == 3


async def test_layers_between_see_the_deadline_and_the_timeout(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """A breaker is told of a call that ran out of its total, as of one that ran out of its attempt."""
    seen: list[object] = []

    async def breaker(call: Call, call_next: CallNext) -> Result:
        seen.append(call.deadline)
        try:
            return await call_next(call)
        except Refusal as refusal:
            seen.append(refusal.data["limit"])
            raise

    provider.script("echo", Hang())
    async with hosting(provider, virtual_clock, layer("circuit-breaker", breaker), attempt="9s", total="4s") as host:
        assert [at["instance"] for at in host.chain("echo")] == ["timeout", "circuit-breaker", "timeout"]
        await refused(host, echo())
    assert seen == [1004.0, "total"]


async def test_each_of_two_attempts_at_once_tells_its_own_full_time(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """When one runs out, `attempt_deadline` is its own, though a hedged one beside it began later."""
    seen: list[object] = []

    async def hedge(call: Call, call_next: CallNext) -> Result:
        async def attempt(after: float) -> None:
            await anyio.sleep(after)
            with pytest.raises(Refusal):
                await call_next(call)
            seen.append(call.attempt_deadline)

        async with anyio.create_task_group() as attempts:
            attempts.start_soon(attempt, 0)
            attempts.start_soon(attempt, 2)
        raise Refusal(ErrorCode.TIMEOUT, "both ran out", details={"limit": "attempt"})

    provider.script("echo", Hang())
    async with hosting(provider, virtual_clock, layer("retry", hedge), attempt="3s", total="60s") as host:
        await refused(host, echo())
    assert seen == [1003.0, 1005.0]


async def test_order_composes_with_all_of_protect(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """The total stands outermost in PROTECT, the attempt between breaker and bulkhead."""

    async def through(call: Call, call_next: CallNext) -> Result:
        return await call_next(call)

    bulkhead = RecordingMiddleware(name="bulkhead")
    bulkhead._middleware = Middleware(through, Phase.PROTECT, after=("retry", "circuit-breaker", "timeout"))
    others = [layer("retry", through), layer("circuit-breaker", through, after="retry"), bulkhead]
    async with hosting(provider, virtual_clock, *others) as host:
        chain = [at["instance"] for at in host.chain("echo")]
    assert chain == ["timeout", "retry", "circuit-breaker", "timeout", "bulkhead"]


async def test_a_deadline_is_never_moved_back(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """A deadline that is tighter than the total stays, and is what the refusal speaks of."""
    provider.script("echo", Hang())
    call = echo()
    call.deadline = virtual_clock.monotonic() + 1.5
    async with hosting(provider, virtual_clock, total="10s") as host:
        refusal = await refused(host, call)
    assert call.deadline == 1001.5
    assert refusal.data["limit"] == "deadline"
    assert refusal.data["limitMs"] == 1500


async def test_a_late_deadline_is_moved_forward(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """A deadline further out than the total gives way to it."""
    call = echo()
    call.deadline = virtual_clock.monotonic() + 100
    async with hosting(provider, virtual_clock, total="10s") as host:
        await host.dispatch(call)
    assert call.deadline == 1010.0


async def test_past_the_deadline_the_provider_is_not_asked(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """An attempt that has no time left is refused without being made."""
    call = echo()
    call.deadline = virtual_clock.monotonic()
    async with hosting(provider, virtual_clock) as host:
        await refused(host, call)
    assert provider.calls == []


async def test_tools_have_limits_of_their_own(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Overrides are by the provider's own name; what is no tool has the default."""
    provider.prefix = "n_"
    provider.script("report", [Pause(50), text("done")])
    provider.script("note://1", [Pause(50), {"contents": []}])
    async with hosting(provider, virtual_clock, attempt="5s", tools={"report": {"attempt": "1m"}}) as host:
        assert (await host.dispatch(echo("n_report")))["content"] == text("done")["content"]
        await refused(host, make_call("resources/read", {"uri": "note://1"}))


async def test_what_waits_for_events_is_not_limited(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """A long-lived method may take for ever."""
    provider.script("tasks/result", [Pause(86_400), {"done": True}])
    async with hosting(provider, virtual_clock, attempt="1s", total="1s") as host:
        assert (await host.dispatch(make_call("tasks/result")))["done"] is True


async def test_an_answer_after_the_limit_is_none(
    provider: ScriptedProvider, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A tool that swallows its cancellation and answers is refused all the same, and named in the log."""

    async def stubborn(call: Call, params: Mapping[str, Any]) -> Result:
        with suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return text("I was told to stop")

    provider.script("echo", stubborn)
    async with hosting(provider, virtual_clock, attempt="2s") as host:
        await refused(host, echo())
    assert "answered all the same; refused" in caplog.text


async def test_an_error_on_the_way_out_is_the_cause(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """What the provider raises when it is cancelled does not hide the timeout, and is kept as its cause."""

    async def clumsy(call: Call, params: Mapping[str, Any]) -> Result:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    provider.script("echo", clumsy)
    async with hosting(provider, virtual_clock, attempt="2s") as host:
        refusal = await refused(host, echo())
    assert isinstance(refusal.__cause__, KeyError)


async def test_a_limit_that_ran_out_is_told(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """An event names method, provider, target and limit; the operation counts by provider and limit."""
    watch = RecordingMiddleware(name="watch")
    provider.script("echo", Hang())
    async with hosting(provider, virtual_clock, watch, attempt="2s") as host:
        await refused(host, echo())
        await anyio.sleep(1)
        shown = await host.run_operation("timeout", "show")
    details = [dict(event.details) for event in watch.events if event.type == EventType.REFUSED]
    expected = {"method": "tools/call", "provider": "notes", "target": "echo", "limit": "attempt", "limitMs": 2000}
    assert details == [expected]
    assert shown == {
        "attempt": 2.0,
        "total": 60.0,
        "tools": {},
        "expired": [{"provider": "notes", "limit": "attempt", "count": 1}],
    }


async def test_observing_cuts_nothing_short(
    provider: ScriptedProvider, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With mode = "observe" the answer arrives however late, and each limit that would have run out is told."""
    watch = RecordingMiddleware(name="watch")
    provider.script("echo", [Pause(20), text("done")])
    call = echo()
    async with hosting(provider, virtual_clock, watch, mode="observe", attempt="2s", total="10s") as host:
        assert (await host.dispatch(call))["content"] == text("done")["content"]
        await anyio.sleep(1)
    assert call.deadline is None
    told = [event.details["limit"] for event in watch.events if event.type == EventType.WOULD_REFUSE]
    assert told == ["attempt", "total"]
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 2


async def test_new_limits_are_for_new_calls(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Reconfigured, the plugin keeps its counts; a call under way keeps the limits it began with."""
    provider.script("echo", Hang())
    plugin = TimeoutPlugin(TimeoutConfig(attempt=2), name="timeout")
    host = make_host(plugin, providers=[provider], clock=virtual_clock)
    async with host, anyio.create_task_group() as tasks:
        tasks.start_soon(refused, host, echo())
        await provider.received(1)
        assert await plugin.reconfigure(TimeoutConfig(attempt=7))
        plugin.config = TimeoutConfig(attempt=7)
        await host.register(RecordingMiddleware(name="later"))  # any change makes a new generation
        began = virtual_clock.monotonic()
        assert (await refused(host, echo())).data["limitMs"] == 7000
        assert virtual_clock.monotonic() - began == 7
    assert plugin.expired["notes", "attempt"] == 2


def test_a_thread_is_left_to_itself() -> None:
    """The caller of a synchronous tool is answered at the limit; its thread, which nothing can stop, runs on."""
    server = MCPServer("notes")
    released, ended = threading.Event(), threading.Event()

    @server.tool()
    def block() -> str:
        released.wait(60)
        ended.set()
        return "late"

    async def main() -> None:
        plugin = TimeoutPlugin(TimeoutConfig(attempt=0.05), name="timeout")
        async with make_host(plugin, providers=[server]) as host:
            await refused(host, echo("block"))
            assert not ended.is_set()
            released.set()
            assert await anyio.to_thread.run_sync(ended.wait, 60)

    anyio.run(main)
