"""The plugin in the pipeline: what is retried, when it stops, and what the client sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from plughost import Call, CallNext, ErrorCode, EventType, Host, MCPPlugin, Middleware, Phase, Refusal, Result, hookimpl
from plughost_retry import RetryConfig, RetryPlugin
from plughost_testing import (
    Hang,
    Line,
    Pause,
    Progress,
    RecordingMiddleware,
    Reply,
    ScriptedProvider,
    VirtualClock,
    make_call,
    make_host,
    text,
)

pytestmark = pytest.mark.anyio

AWAY = Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "notes is away", details={"why": "restart"})
DONE = text("done")


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider(
        "notes",
        tools=[
            "echo",
            {"name": "find", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
            {"name": "put", "inputSchema": {"type": "object"}, "annotations": {"idempotentHint": True}},
            {"name": "delete", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": True}},
        ],
        prompts=["ask"],
        resources=["note://1"],
    )


@asynccontextmanager
async def hosting(
    provider: object, clock: VirtualClock | None, *plugins: MCPPlugin[Any], **config: Any
) -> AsyncIterator[Host]:
    plugin = RetryPlugin(RetryConfig.model_validate({"tools": ["echo"], **config}), name="retry")
    async with make_host(plugin, *plugins, providers=[provider], clock=clock) as host:
        yield host


def tool(name: str = "echo", *, line: Line | None = None, meta: Any = None) -> Call:
    return make_call("tools/call", {"name": name, "arguments": {}, "_meta": meta or {}}, line=line)


async def failure(host: Host, call: Call) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await host.dispatch(call)
    return caught.value


def words(result: Any) -> str:
    return str(result["content"][0]["text"])


# -- what is retried --------------------------------------------------------------------------------------------------


async def test_a_named_tool_is_tried_again(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Two failures and an answer are an answer; each further attempt is an event."""
    provider.script("echo", AWAY, AWAY, DONE)
    watch = RecordingMiddleware(name="watch")
    async with hosting(provider, virtual_clock, watch) as host:
        assert words(await host.dispatch(tool())) == "done"
        await anyio.sleep(1)
    told = [event.details for event in watch.events if event.type == EventType.RETRIED]
    assert [(item["attempt"], item["code"]) for item in told] == [(2, -32016), (3, -32016)]
    assert {item["target"] for item in told} == {"echo"}


async def test_two_instances_do_not_multiply_their_attempts(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """The outer one retries what it names, the inner one the rest."""
    provider.script("tools/call", AWAY)
    inner = RetryPlugin(RetryConfig(tools=("*",), attempts=5), name="the-rest")
    async with hosting(provider, virtual_clock, inner) as host:
        assert [layer["instance"] for layer in host.chain("echo")] == ["retry", "the-rest"]
        assert (await failure(host, tool("echo"))).data["attempts"] == 3
        assert len(provider.calls) == 3
        assert (await failure(host, tool("put"))).data["attempts"] == 5


async def test_an_unnamed_tool_never_is(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """A tool that the operator did not name runs once, whatever its provider says of it (A10)."""
    provider.script("tools/call", AWAY)
    async with hosting(provider, virtual_clock, tools=[]) as host:
        for name in ("echo", "find", "put", "delete", "no such tool"):
            error = await failure(host, tool(name))
            assert "attempts" not in (error.data or {})
    assert len(provider.calls) == 5


@pytest.mark.parametrize(("name", "times"), [("echo", 1), ("find", 3), ("put", 3), ("delete", 1)])
async def test_annotations_count_where_the_provider_is_trusted(
    provider: ScriptedProvider, virtual_clock: VirtualClock, name: str, times: int
) -> None:
    """Of a trusted provider the tools are retried that say of themselves to be read-only or idempotent."""
    provider.script("tools/call", AWAY)
    provider.prefix = "n_"
    async with hosting(provider, virtual_clock, tools=[], trusted=["notes"]) as host:
        await failure(host, tool(f"n_{name}"))
    assert len(provider.calls) == times


@pytest.mark.parametrize(
    ("method", "params", "times"),
    [
        ("resources/read", {"uri": "note://1"}, 3),
        ("prompts/get", {"name": "ask"}, 3),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "a"}}, 1),
        ("vendor/anything", {}, 1),
    ],
)
@pytest.mark.parametrize("reads", [True, False])
async def test_reads_are_retried(
    provider: ScriptedProvider, virtual_clock: VirtualClock, method: str, params: Any, times: int, *, reads: bool
) -> None:
    """What the specification has only retrieve something is tried again, unless `reads` is off; nothing else."""
    provider.script(method, AWAY)
    provider.script("note://1", AWAY)
    provider.script("ask", AWAY)
    async with hosting(provider, virtual_clock, reads=reads) as host:
        await failure(host, make_call(method, params))
    assert len(provider.calls) == (times if reads else 1)


async def test_lists_are_retried(virtual_clock: VirtualClock) -> None:
    """A list that fails is asked for again."""

    class Unlisted(ScriptedProvider):
        failing = 0

        async def list(self, kind: Any, call: Any) -> Any:
            if call is not None and self.failing:
                self.failing -= 1
                raise AWAY
            return await super().list(kind, call)

    provider = Unlisted("notes", tools=["echo"])
    async with hosting(provider, virtual_clock) as host:
        provider.failing = 2
        result = await host.dispatch(make_call("tools/list"))
    assert [entry["name"] for entry in result["tools"]] == ["echo"]


@pytest.mark.parametrize("key", ["inputResponses", "requestState"])
async def test_a_round_of_a_longer_call_is_not_retried(
    provider: ScriptedProvider, virtual_clock: VirtualClock, key: str
) -> None:
    """What carries the client's answers or the provider's state may have used them up."""
    provider.script("echo", AWAY)
    async with hosting(provider, virtual_clock) as host:
        await failure(host, make_call("tools/call", {"name": "echo", "arguments": {}, key: {}}))
    assert len(provider.calls) == 1


# -- which failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (MCPError(INTERNAL_ERROR, "oops"), 3),
        (ConnectionError("reset"), 3),
        (Refusal(ErrorCode.TIMEOUT, "slow"), 3),
        (Refusal(ErrorCode.BULKHEAD_FULL, "full", retry_after_ms=10), 3),
        (Refusal(ErrorCode.CIRCUIT_OPEN, "open", retry_after_ms=10), 1),
        (Refusal(ErrorCode.CIRCUIT_OPEN, "open", details={"retryable": True}), 1),
        (MCPError(INVALID_PARAMS, "no"), 1),
        (Refusal(ErrorCode.UNAUTHORIZED, "no"), 1),
        (MCPError(-32050, "its own", {"retryable": True}), 3),
        (MCPError(INTERNAL_ERROR, "for ever", {"retryable": False}), 1),
    ],
)
async def test_only_what_may_succeed_later_is_tried_again(
    provider: ScriptedProvider, virtual_clock: VirtualClock, error: Exception, times: int
) -> None:
    """The provider's failures, and what says that it is retryable; an open breaker ends it."""
    provider.script("echo", error)
    async with hosting(provider, virtual_clock) as host:
        await failure(host, tool())
    assert len(provider.calls) == times


@pytest.mark.parametrize(("config", "times"), [({}, 1), ({"tool_errors": True}, 3)])
async def test_a_tools_own_failure_is_retried_if_asked(
    provider: ScriptedProvider, virtual_clock: VirtualClock, config: Any, times: int
) -> None:
    """`isError: true` is an answer, unless `tool_errors` says otherwise; the last one is handed out as it is."""
    provider.script("echo", text("one", isError=True), text("two", isError=True), text("three", isError=True))
    async with hosting(provider, virtual_clock, **config) as host:
        result = await host.dispatch(tool())
    assert result["isError"] is True
    assert words(result) == ["one", "two", "three"][times - 1]
    assert len(provider.calls) == times


async def test_the_last_error_is_handed_out(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Class, code, message and data are the last attempt's, and the attempts are named; the original is untouched."""
    provider.script("echo", MCPError(INTERNAL_ERROR, "first"), MCPError(INTERNAL_ERROR, "second"), AWAY)
    async with hosting(provider, virtual_clock) as host:
        error = await failure(host, tool())
    assert type(error) is Refusal
    assert (error.code, error.message) == (ErrorCode.UPSTREAM_UNAVAILABLE, "notes is away")
    assert error.data == {"why": "restart", "attempts": 3, "stopped": "attempts"}
    assert AWAY.data == {"why": "restart"}


async def test_data_that_is_no_object_stays(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """An error whose data has no room for the attempts is handed out as it is."""
    provider.script("echo", MCPError(INTERNAL_ERROR, "oops", ["a", 1]))
    async with hosting(provider, virtual_clock) as host:
        assert (await failure(host, tool())).data == ["a", 1]


async def test_a_retry_that_ends_otherwise_says_so(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """A second attempt that fails for good ends it, and the client sees that error and both attempts."""
    provider.script("echo", AWAY, MCPError(INVALID_PARAMS, "no such note", {"id": 7}))
    async with hosting(provider, virtual_clock) as host:
        error = await failure(host, tool())
    assert error.data == {"id": 7, "attempts": 2, "stopped": "final"}


# -- when it stops ----------------------------------------------------------------------------------------------------


async def test_what_the_provider_asks_for_is_waited(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """`retryAfterMs` of the failure is the least that is waited."""
    provider.script("echo", Refusal(ErrorCode.BULKHEAD_FULL, "full", retry_after_ms=3000), DONE)
    async with hosting(provider, virtual_clock) as host:
        began = virtual_clock.monotonic()
        await host.dispatch(tool())
    assert 3 <= virtual_clock.monotonic() - began <= 3.1


async def test_a_long_wait_is_the_clients(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """A provider that wants to be left alone longer than `max_backoff` is; the client learns for how long."""
    provider.script("echo", Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "later", retry_after_ms=60_000))
    async with hosting(provider, virtual_clock) as host:
        error = await failure(host, tool())
    assert error.data == {"retryAfterMs": 60_000, "attempts": 1, "stopped": "retryAfterMs"}


@pytest.mark.parametrize(("left", "times"), [(0.5, 1), (2.5, 2), (5.5, 3), (100, 5)])
async def test_nothing_starts_past_the_deadline(
    provider: ScriptedProvider, virtual_clock: VirtualClock, left: float, times: int
) -> None:
    """No attempt starts and no wait ends after the call's deadline."""
    provider.script("echo", Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "away", retry_after_ms=2000))
    call = tool()
    call.deadline = virtual_clock.monotonic() + left
    async with hosting(provider, virtual_clock, attempts=5, backoff="1ms", max_backoff="3s") as host:
        error = await failure(host, call)
        assert virtual_clock.monotonic() < call.deadline
    assert error.data["stopped"] == ("deadline" if times < 5 else "attempts")
    assert len(provider.calls) == times


@pytest.mark.parametrize("at", ["attempt", "wait"])
async def test_what_the_client_cancelled_is_not_retried(
    provider: ScriptedProvider, virtual_clock: VirtualClock, at: str
) -> None:
    """A cancellation during an attempt or a wait ends the call."""
    provider.script("echo", [Pause(10), AWAY] if at == "attempt" else [AWAY])
    async with hosting(provider, virtual_clock, backoff="1h", max_backoff="1h") as host:
        task = asyncio.ensure_future(host.dispatch(tool()))
        await anyio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await anyio.sleep(7200)
    assert len(provider.calls) == 1


async def test_a_failure_because_of_a_cancellation_is_not_retried(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """A provider that fails since the client gave up is not asked again."""
    line = Line()

    async def gives_up(call: Call, params: Any) -> Result:
        line.cancel_requested.set()
        raise AWAY

    provider.script("echo", gives_up)
    async with hosting(provider, virtual_clock) as host:
        await failure(host, tool(line=line))
    assert len(provider.calls) == 1


async def test_the_budget_bounds_a_total_outage(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Of 100 calls that all fail, 1.2 times as many and the floor arrive; one event tells that it is used up."""
    provider.script("echo", AWAY)
    watch = RecordingMiddleware(name="watch")
    async with hosting(provider, virtual_clock, watch, budget_floor=4, backoff="1ms") as host:
        errors = [await failure(host, tool()) for _ in range(100)]
        await anyio.sleep(1)
        shown = await host.run_operation("retry", "show")
        assert len(provider.calls) == 124
        assert shown == {"budgets": {"notes": 0}, "hedges": []}
        await host.run_operation("retry", "reset")
        await failure(host, tool())
        assert len(provider.calls) == 127
    assert errors[-1].data["stopped"] in {"budget", "attempts"}
    assert {"why": "restart", "attempts": 1, "stopped": "budget"} in [error.data for error in errors]
    told = [event.details for event in watch.events if event.type == EventType.BUDGET_EXHAUSTED]
    assert told == [{"method": "tools/call", "provider": "notes", "target": "echo"}]


async def test_each_provider_has_a_budget_of_its_own(virtual_clock: VirtualClock) -> None:
    """A provider that is down uses up nobody else's retries."""
    down, up = ScriptedProvider("down", tools=["echo"]), ScriptedProvider("up", tools=["find"])
    down.script("echo", AWAY)
    up.script("find", AWAY, DONE)
    plugin = RetryPlugin(RetryConfig(tools=("*",), budget_floor=3), name="retry")
    async with make_host(plugin, providers=[down, up], clock=virtual_clock) as host:
        for _ in range(10):
            await failure(host, tool())
        assert words(await host.dispatch(tool("find"))) == "done"


async def test_a_new_config_keeps_the_counts(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Reconfigured in place, the plugin knows what it spent; the new share counts from now on."""
    provider.script("echo", AWAY)
    plugin = RetryPlugin(RetryConfig(tools=("echo",), budget_floor=2), name="retry")
    async with make_host(plugin, providers=[provider], clock=virtual_clock) as host:
        await failure(host, tool())
        assert await plugin.reconfigure(RetryConfig(tools=("echo",), budget_floor=3))
        await failure(host, tool())
    assert len(provider.calls) == 3 + 2


async def test_an_open_breaker_inside_ends_the_retries(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Each attempt passes the breaker; once it is open the client sees why it opened, and when to come back."""

    class Breaker(MCPPlugin):
        seen = 0

        @hookimpl
        def plughost_middleware(self) -> list[Middleware]:
            return [Middleware(self.handle, Phase.PROTECT, after=("retry",))]

        async def handle(self, call: Call, call_next: CallNext) -> Result:
            self.seen += 1
            if self.seen == 2:
                raise Refusal(ErrorCode.CIRCUIT_OPEN, "notes is left alone", retry_after_ms=10)
            return await call_next(call)

    provider.script("echo", AWAY)
    breaker = Breaker(name="circuit-breaker")
    async with hosting(provider, virtual_clock, breaker, attempts=5) as host:
        error = await failure(host, tool())
    assert breaker.seen == 2
    assert (error.code, error.message) == (AWAY.code, AWAY.message)
    assert error.data == {"why": "restart", "retryAfterMs": 10, "attempts": 2, "stopped": "circuit_open"}


async def test_a_full_bulkhead_hides_no_failure(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """What the provider said is the error, if any attempt reached it."""
    full = Refusal(ErrorCode.BULKHEAD_FULL, "full", retry_after_ms=10)
    provider.script("echo", full, AWAY, full)
    async with hosting(provider, virtual_clock, attempts=4) as host:
        error = await failure(host, tool())
    assert error.data == {"why": "restart", "attempts": 4, "stopped": "attempts"}


# -- progress ---------------------------------------------------------------------------------------------------------


async def test_progress_only_grows(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """What a second attempt reports is held back until it is further than the first was."""
    steps = [Progress(1), Progress(2), Progress(3)]
    provider.script("echo", [*steps, AWAY], [*steps, Progress(4), DONE])
    line = Line()
    async with hosting(provider, virtual_clock) as host:
        call = tool(line=line, meta={"progressToken": 7})
        await host.dispatch(call)
    assert [params["progress"] for _, params in line.sent] == [1, 2, 3, 4]
    assert call.dispatch is line


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_a_servers_own_progress_grows_too(virtual_clock: VirtualClock, version: str) -> None:
    """The same for an SDK server in process, in both protocol eras."""
    server = MCPServer("notes")
    tries: list[int] = []

    @server.tool()
    async def echo(context: Context) -> str:
        tries.append(1)
        for step in range(len(tries) + 1):
            await context.report_progress(step + 1)
        if len(tries) == 1:
            raise MCPError(INTERNAL_ERROR, "the first time")
        return "done"

    line = Line()
    params = {"name": "echo", "arguments": {}, "_meta": {"progressToken": 7}}
    async with hosting(server, virtual_clock) as host:
        result = await host.dispatch(make_call("tools/call", params, protocol_version=version, line=line))
    assert words(result) == "done"
    assert [params["progress"] for _, params in line.sent] == [1, 2, 3]


# -- hedging ----------------------------------------------------------------------------------------------------------


async def test_a_slow_call_is_hedged(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """After the fixed delay a second attempt starts; the first one that answers is heard, the other one cancelled."""
    provider.script("find", Hang(), [Pause(1), DONE])
    async with hosting(provider, virtual_clock, hedge={"tools": ["find"], "delay": "2s"}) as host:
        began = virtual_clock.monotonic()
        assert words(await host.dispatch(tool("find"))) == "done"
    assert virtual_clock.monotonic() - began == 3
    assert [item.outcome for item in provider.calls] == ["cancelled", "success"]


async def test_the_delay_is_what_calls_usually_take(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Without a delay of its own a tool is hedged at its percentile, once enough calls have been seen."""
    quick: list[Reply] = [[Pause(1), DONE]] * 20
    provider.script("find", Hang(), *quick, Hang(), DONE)
    async with hosting(provider, virtual_clock, hedge={"tools": ["find"]}) as host:
        with anyio.move_on_after(100) as unhedged:
            await host.dispatch(tool("find"))
        assert unhedged.cancelled_caught
        assert len(provider.calls) == 1
        for _ in quick:
            await host.dispatch(tool("find"))
        began = virtual_clock.monotonic()
        await host.dispatch(tool("find"))
        assert virtual_clock.monotonic() - began == pytest.approx(1, rel=0.06)
        shown = (await host.run_operation("retry", "show"))["hedges"]
    assert len(provider.calls) == 1 + 20 + 2
    assert [(item["provider"], item["tool"], item["calls"]) for item in shown] == [("notes", "find", 21)]
    assert shown[0]["delayMs"] == pytest.approx(1000, rel=0.06)


async def test_hedges_spend_the_budget(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """When every call is slow, second attempts are as many as the budget has, and no more."""
    provider.script("find", [Pause(1), DONE])
    hedge = {"tools": ["find"], "delay": "500ms"}
    async with hosting(provider, virtual_clock, hedge=hedge, budget_floor=1) as host:
        for _ in range(10):
            await host.dispatch(tool("find"))
    assert len(provider.calls) == 10 + 1 + 2


async def test_no_hedge_starts_past_the_deadline(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """Where the second attempt would start at the deadline or later, there is none."""
    provider.script("find", [Pause(5), DONE])
    call = tool("find")
    call.deadline = virtual_clock.monotonic() + 3
    async with hosting(provider, virtual_clock, hedge={"tools": ["find"], "delay": "3s"}) as host:
        await host.dispatch(call)
    assert len(provider.calls) == 1


async def test_a_hedged_call_that_fails_is_retried(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """If both attempts fail, the next round begins; a tool not named for hedging never runs twice at a time."""
    provider.script("find", [Pause(3), AWAY], [Pause(0.5), AWAY], DONE)
    async with hosting(provider, virtual_clock, hedge={"tools": ["f*"], "delay": "1s"}) as host:
        assert words(await host.dispatch(tool("find"))) == "done"
        provider.script("echo", [Pause(60), DONE])
        await host.dispatch(tool("echo"))
    assert len(provider.calls) == 4


async def test_latencies_of_invented_tools_are_bounded(virtual_clock: VirtualClock) -> None:
    """Clients cannot fill the memory with names that a glob fits."""
    provider = ScriptedProvider("notes", tools=["echo"])
    plugin = RetryPlugin(RetryConfig.model_validate({"hedge": {"tools": ["*"]}}), name="retry")
    async with make_host(plugin, providers=[provider], clock=virtual_clock) as host:
        for number in range(1010):
            await host.dispatch(tool(f"invented-{number}"))
    assert len(plugin.latencies) == 1000
