"""The plugin in a host, in front of a provider that does what a script says, on virtual time."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_PARAMS, REQUEST_TIMEOUT
from meters import collecting
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    Host,
    MCPPlugin,
    Middleware,
    Phase,
    PlughostError,
    Refusal,
    Result,
    hookimpl,
    unknown_target,
)
from plughost_circuit_breaker import CircuitBreakerConfig, CircuitBreakerPlugin, State
from plughost_circuit_breaker._metrics import meter
from plughost_testing import (
    ClientFactory,
    Hang,
    HostFactory,
    Pause,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
    text,
)

pytestmark = pytest.mark.anyio

TROUBLE = Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "connection lost")


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["add", "find"], prompts=["ask"], resources=["note://1"], prefix="n_")


def breaker(name: str = "circuit-breaker", **keys: Any) -> CircuitBreakerPlugin:
    return CircuitBreakerPlugin(CircuitBreakerConfig.model_validate({"jitter": 0, "ramp": 0, **keys}), name=name)


class Timeout(MCPPlugin):
    """Says how long calls may take, as the timeout inside does."""

    attempt: float | None = None

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.limit, Phase.PROTECT, after=("circuit-breaker",))]

    async def register(self, host: Host) -> None:
        self._now = host.clock.monotonic

    async def limit(self, call: Call, call_next: CallNext) -> Result:
        call.deadline = self._now() + 10
        call.attempt_deadline = None if self.attempt is None else self._now() + self.attempt
        return await call_next(call)


def call(tool: str = "n_add") -> Call:
    return make_call("tools/call", {"name": tool, "arguments": {}})


async def outcome(host: Host, asked: Call | None = None) -> Result | MCPError:
    try:
        return await host.dispatch(asked or call())
    except MCPError as error:
        return error


async def code(host: Host, asked: Call | None = None) -> int | None:
    found = await outcome(host, asked)
    return found.code if isinstance(found, MCPError) else None


async def many(host: Host, count: int = 10, tool: str = "n_add") -> None:
    for _ in range(count):
        await outcome(host, call(tool))


async def show(host: Host, **which: Any) -> dict[str | None, Mapping[str, Any]]:
    found = await host.run_operation("circuit-breaker", "show", which)
    return {item["tool"]: item for item in found["breakers"]}


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# -- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [TROUBLE, MCPError(CONNECTION_CLOSED, "closed"), ConnectionError("reset")])
async def test_lost_way_opens_the_provider(host: HostFactory, provider: ScriptedProvider, fault: Exception) -> None:
    """Transport faults open the provider's breaker: none of its tools is called any more."""
    provider.script("add", fault)
    hosted = await host(breaker(), providers=[provider])
    await many(hosted)
    for asked in (call(), call("n_find"), make_call("resources/read", {"uri": "note://1"})):
        assert await code(hosted, asked) == ErrorCode.CIRCUIT_OPEN
    assert len(provider.calls) == 10


@pytest.mark.parametrize("fault", [MCPError(INTERNAL_ERROR, "oops"), MCPError(0, "oops")])
async def test_failing_tool_opens_itself_alone(host: HostFactory, provider: ScriptedProvider, fault: Exception) -> None:
    """Internal errors of one tool open its own breaker; the others and the provider go on."""
    provider.script("add", fault)
    hosted = await host(breaker(), providers=[provider])
    await many(hosted, 20)
    assert len(provider.calls) == 10
    assert await code(hosted, call("n_find")) is None
    states = await show(hosted)
    assert (states["add"]["state"], states[None]["state"]) == ("open", "closed")


async def test_timeouts_count_against_both(host: HostFactory, provider: ScriptedProvider) -> None:
    """No answer in time is counted for tool and provider: whose fault it is, nobody knows."""
    provider.script("add", MCPError(REQUEST_TIMEOUT, "late"), Refusal(ErrorCode.TIMEOUT, "late"), TimeoutError())
    hosted = await host(breaker(), providers=[provider])
    await many(hosted, 3)
    states = await show(hosted)
    assert (states["add"]["failures"], states[None]["failures"]) == (3, 3)


@pytest.mark.parametrize(
    "answer",
    [
        MCPError(INVALID_PARAMS, "Invalid request parameters"),
        unknown_target("tools/call", "n_add"),
        Refusal(ErrorCode.UNAUTHORIZED, "no"),
        Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "slow down"),
        Refusal(ErrorCode.BULKHEAD_FULL, "full"),
        MCPError(-31000, "a server's own"),
    ],
)
async def test_fault_of_the_client_or_a_policy_counts_for_nothing(
    host: HostFactory, provider: ScriptedProvider, answer: Exception
) -> None:
    """What blames the client, or a plugin further in, says nothing about the provider."""
    provider.script("add", answer)
    hosted = await host(breaker(), providers=[provider])
    await many(hosted, 30)
    assert len(provider.calls) == 30
    assert {item["calls"] for item in (await show(hosted)).values()} == {0}


@pytest.mark.parametrize("answer", [text("ok"), {"resultType": "input_required", "inputRequests": {}}])
async def test_answers_are_successes(host: HostFactory, provider: ScriptedProvider, answer: Any) -> None:
    """A result is a success, also one that asks for input."""
    provider.script("add", answer)
    hosted = await host(breaker(), providers=[provider])
    await many(hosted, 20)
    assert (await show(hosted))["add"]["failures"] == 0
    assert len(provider.calls) == 20


@pytest.mark.parametrize(("tool_errors", "arrived"), [(False, 20), (True, 10)])
async def test_own_failure_of_a_tool(
    host: HostFactory, provider: ScriptedProvider, *, tool_errors: bool, arrived: int
) -> None:
    """`isError` counts against the tool if `tool_errors` says so, and never against the provider."""
    provider.script("add", text("no such note", isError=True))
    hosted = await host(breaker(tool_errors=tool_errors), providers=[provider])
    await many(hosted, 20)
    assert len(provider.calls) == arrived
    assert (await show(hosted))[None]["failures"] == 0


async def test_other_methods_have_the_providers_breaker(host: HostFactory, provider: ScriptedProvider) -> None:
    """Prompts, resources and completions count for the provider; lists pass whatever its state."""
    provider.script("note://1", MCPError(INTERNAL_ERROR, "oops"))
    hosted = await host(breaker(), providers=[provider])
    for _ in range(10):
        await outcome(hosted, make_call("resources/read", {"uri": "note://1"}))
    assert await code(hosted, make_call("prompts/get", {"name": "n_ask"})) == ErrorCode.CIRCUIT_OPEN
    assert await code(hosted, make_call("tools/list")) is None


# -- slow calls -------------------------------------------------------------------------------------------------------


async def test_slow_from_a_given_time_on(host: HostFactory, provider: ScriptedProvider) -> None:
    """Calls that take `slow_call` open the tool's breaker, and not the provider's."""
    provider.script("add", [Pause(5), text("late")])
    hosted = await host(breaker(slow_call="5s", window="10m"), providers=[provider])
    await many(hosted, 11)
    states = await show(hosted)
    assert (states["add"]["state"], states[None]["state"]) == ("open", "closed")
    assert states["add"]["reason"] == "10 of 10 calls were slow"


@pytest.mark.parametrize(("seconds", "slow"), [(7.9, 0), (8.1, 1)])
async def test_slow_by_the_deadline(host: HostFactory, provider: ScriptedProvider, seconds: float, slow: int) -> None:
    """Unless told otherwise a call is slow from 80 % of the time that its timeout gives it."""
    provider.script("add", [Pause(seconds), text("late")])
    hosted = await host(breaker(), Timeout(), providers=[provider])
    await many(hosted, 1)
    assert (await show(hosted))["add"]["slow"] == slow


@pytest.mark.parametrize(("seconds", "slow"), [(3.1, 0), (3.3, 1)])
async def test_slow_by_the_limit_of_an_attempt(
    host: HostFactory, provider: ScriptedProvider, seconds: float, slow: int
) -> None:
    """Where each attempt has a limit of its own, that is what counts."""
    provider.script("add", [Pause(seconds), text("late")])
    timeout = Timeout()
    timeout.attempt = 4
    hosted = await host(breaker(), timeout, providers=[provider])
    await many(hosted, 1)
    assert (await show(hosted))["add"]["slow"] == slow


@pytest.mark.parametrize("slow_call", ["timeout", "off"])
async def test_nothing_is_slow_without_a_limit(host: HostFactory, provider: ScriptedProvider, slow_call: str) -> None:
    """Without a deadline, or switched off, a call may take its time."""
    provider.script("add", [Pause(500), text("late")])
    hosted = await host(breaker(slow_call=slow_call), providers=[provider])
    await many(hosted, 1)
    assert (await show(hosted))["add"]["slow"] == 0


# -- cancellation -----------------------------------------------------------------------------------------------------


async def test_cancelled_calls_do_not_open_it(host: HostFactory, provider: ScriptedProvider) -> None:
    """Calls that their clients give up count for nothing."""
    provider.script("add", Hang())
    hosted = await host(breaker(), providers=[provider])
    for _ in range(30):
        with anyio.move_on_after(1):
            await hosted.dispatch(call())
    assert len(provider.calls) == 30
    assert (await show(hosted))[None]["calls"] == 0


async def test_cancelled_after_its_deadline_is_a_timeout(host: HostFactory, provider: ScriptedProvider) -> None:
    """A call that something outside cancels when it is out of time has timed out."""
    provider.script("add", Hang())
    hosted = await host(breaker(), Timeout(), providers=[provider])
    with anyio.move_on_after(10.5):
        await hosted.dispatch(call())
    assert (await show(hosted))["add"]["failures"] == 1


async def test_cancelled_probes_do_not_wedge_it(host: HostFactory, provider: ScriptedProvider) -> None:
    """Probes given up by their clients leave room for others."""
    hosted = await opened(host, provider)
    provider.script("add", Hang())
    for _ in range(10):
        with anyio.move_on_after(1):
            await hosted.dispatch(call())
    provider.script("add", text("ok"))
    await many(hosted, 2)
    assert (await show(hosted))[None]["state"] == "closed"


async def opened(host: HostFactory, provider: ScriptedProvider, *plugins: MCPPlugin[Any], **keys: Any) -> Host:
    """A host whose breaker opened, and whose wait is over."""
    provider.script("add", TROUBLE)
    hosted = await host(breaker(**keys), *plugins, providers=[provider])
    await many(hosted)
    await anyio.sleep(10)
    return hosted


# -- refusals ---------------------------------------------------------------------------------------------------------


async def test_refusal_says_what_where_and_how_long(
    host: HostFactory, client: ClientFactory, provider: ScriptedProvider
) -> None:
    """A client of either era reads provider, tool, state and when to call again."""
    provider.script("add", MCPError(INTERNAL_ERROR, "oops"))
    hosted = await host(breaker(), providers=[provider])
    await many(hosted)
    await anyio.sleep(4)
    caller = await client(hosted)
    with pytest.raises(MCPError) as caught:
        await caller.call_tool("n_add", {})
    assert caught.value.code == ErrorCode.CIRCUIT_OPEN
    assert caught.value.data == {"provider": "notes", "tool": "add", "state": "open", "retryAfterMs": 6000}
    assert caught.value.message == (
        "The circuit of tool 'add' of provider 'notes' is open (10 of 10 calls failed); call again in 6 s"
    )


async def test_original_error_is_handed_on(host: HostFactory, provider: ScriptedProvider) -> None:
    """Until it opens, clients see the provider's own error, and the call that opens it too."""
    hosted = await opened(host, provider)
    assert (await show(hosted))[None]["state"] == "half_open"
    assert await outcome(hosted) is TROUBLE


async def test_fifty_callers_after_the_wait(host: HostFactory, provider: ScriptedProvider) -> None:
    """Of fifty calls at once three reach the provider."""
    hosted = await opened(host, provider)
    provider.script("add", [Pause(1), text("ok")])
    before = len(provider.calls)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(outcome, hosted)
    assert len(provider.calls) - before == 3
    assert await code(hosted) is None


async def test_refusals_leave_nothing(host: HostFactory, provider: ScriptedProvider) -> None:
    """Two thousand refusals keep no memory, and each has an error of its own."""
    provider.script("add", TROUBLE)
    hosted = await host(breaker(), providers=[provider])
    await many(hosted, 200)
    first, second = await outcome(hosted), await outcome(hosted)
    assert isinstance(first, MCPError)
    assert first is not second
    del first, second
    gc.collect()
    before = sys.getallocatedblocks()
    await many(hosted, 2000)
    await settle()  # until the events are told
    gc.collect()
    assert sys.getallocatedblocks() - before < 500


async def test_observing_instance_refuses_nothing(host: HostFactory, provider: ScriptedProvider) -> None:
    """With `mode = "observe"` every call arrives, and what would have been refused is told."""
    provider.script("add", TROUBLE)
    watch = RecordingMiddleware(name="watch")
    hosted = await host(breaker(mode="observe"), watch, providers=[provider])
    await many(hosted, 15)
    await settle()
    assert len(provider.calls) == 15
    told = [event.type for event in watch.events]
    assert told.count(EventType.WOULD_REFUSE) == 5
    assert EventType.REFUSED not in told
    assert EventType.BREAKER_OPENED in told


async def test_refusals_are_told(host: HostFactory, provider: ScriptedProvider) -> None:
    """Each is an event that names method, provider and tool, as those of other guards."""
    provider.script("add", MCPError(INTERNAL_ERROR, "oops"))
    watch = RecordingMiddleware(name="watch")
    hosted = await host(breaker(), watch, providers=[provider])
    await many(hosted, 12)
    await settle()
    refused = [event.details for event in watch.events if event.type == EventType.REFUSED]
    where = {"method": "tools/call", "provider": "notes", "tool": "add"}
    assert refused == [{**where, "code": ErrorCode.CIRCUIT_OPEN.value, "state": "open"}] * 2


# -- health of providers, events, operations --------------------------------------------------------------------------


async def test_provider_that_comes_back_is_tried_at_once(host: HostFactory, provider: ScriptedProvider) -> None:
    """When the host hears that the provider is up, an open breaker waits no longer."""
    hosted = await host(breaker(), providers=[provider])
    provider.down()
    await settle()
    await many(hosted, 20)
    assert (await show(hosted))[None]["state"] == "open"
    provider.up()
    await settle()
    assert await code(hosted) is None


async def test_provider_that_goes_down_ends_the_probing(host: HostFactory, provider: ScriptedProvider) -> None:
    """When the host hears that the provider is down, a half-open breaker opens without further probes."""
    hosted = await opened(host, provider)
    provider.script("add", text("ok"))
    await many(hosted, 1)
    provider.down("crashed")
    await settle()
    state = (await show(hosted))[None]
    assert (state["state"], state["reason"]) == ("open", "the provider is down: crashed")


async def test_transitions_are_told(host: HostFactory, provider: ScriptedProvider) -> None:
    """Each transition is an event with provider, reason and wait."""
    watch = RecordingMiddleware(name="watch")
    hosted = await opened(host, provider, watch, ramp="5s")
    provider.script("add", text("ok"))
    await many(hosted, 2)
    await anyio.sleep(5)
    await many(hosted, 1)
    await settle()
    told = [event for event in watch.events if event.type.startswith("breaker.")]
    assert [event.type for event in told] == [
        EventType.BREAKER_OPENED,
        EventType.BREAKER_HALF_OPENED,
        EventType.BREAKER_RECOVERING,
        EventType.BREAKER_CLOSED,
    ]
    assert told[0].subject == "circuit-breaker"
    assert told[0].details == {
        "provider": "notes",
        "tool": None,
        "mode": "auto",
        "reason": "10 of 10 calls failed",
        "retryAfterMs": 10_000,
    }


async def test_operators_hold_it(host: HostFactory, provider: ScriptedProvider) -> None:
    """An operator shuts a tool, lets it go, and everything in between; each answer says how it is now."""
    hosted = await host(breaker(), providers=[provider])

    async def order(operation: str, **which: Any) -> Mapping[str, Any]:
        answer = await hosted.run_operation("circuit-breaker", operation, which)
        found: Mapping[str, Any] = answer["breakers"][0]
        return found

    found = await order("force-open", provider="notes", tool="add")
    assert (found["state"], found["mode"], found["changesInMs"]) == ("open", "forced_open", None)
    refused = await outcome(hosted)
    assert isinstance(refused, MCPError)
    assert refused.data == {"provider": "notes", "tool": "add", "state": "forced_open"}
    assert "an operator has to close it" in refused.message
    assert await code(hosted, call("n_find")) is None

    provider.script("add", TROUBLE)
    assert (await order("disable", provider="notes"))["mode"] == "disabled"
    assert (await order("disable", provider="notes", tool="add"))["mode"] == "disabled"
    await many(hosted, 15)
    assert (await order("observe", provider="notes"))["mode"] == "observe"
    await many(hosted, 15)
    assert (await show(hosted, provider="notes"))[None]["state"] == "open"
    assert len(provider.calls) == 31
    assert (await order("close", provider="notes"))["state"] == "closed"
    await hosted.run_operation("circuit-breaker", "reset")
    assert {item["mode"] for item in (await show(hosted)).values()} == {"auto"}


@pytest.mark.parametrize(
    ("which", "problem"),
    [
        ({"provider": "nots"}, "no provider 'nots'; there are: notes"),
        ({"provider": "notes", "tool": "n_add"}, "no tool 'n_add', as it names them; it has: add, find"),
    ],
)
async def test_operators_are_told_of_typos(
    host: HostFactory, provider: ScriptedProvider, which: dict[str, str], problem: str
) -> None:
    """A name that does not exist is an error that lists those that do, not a breaker that nobody needs."""
    hosted = await host(breaker(), providers=[provider])
    with pytest.raises(PlughostError, match=problem):
        await hosted.run_operation("circuit-breaker", "force-open", which)


async def test_operators_are_told_what_is_not_kept(host: HostFactory, provider: ScriptedProvider) -> None:
    """Where only providers have breakers, a tool's cannot be opened, and the answer says why."""
    hosted = await host(breaker(per=["provider"]), providers=[provider])
    with pytest.raises(PlughostError, match="add 'tool' to per"):
        await hosted.run_operation("circuit-breaker", "force-open", {"provider": "notes", "tool": "add"})


async def test_reconfigured_while_open(host: HostFactory, provider: ScriptedProvider) -> None:
    """A new config leaves an open breaker open, and counts where the old one left off."""
    plugin = breaker()
    provider.script("find", MCPError(INTERNAL_ERROR, "oops"))
    provider.script("add", MCPError(INTERNAL_ERROR, "oops"))
    hosted = await host(plugin, providers=[provider])
    await many(hosted)
    await many(hosted, 4, "n_find")
    assert await plugin.reconfigure(CircuitBreakerConfig(minimum_calls=5))
    assert await code(hosted) == ErrorCode.CIRCUIT_OPEN
    await many(hosted, 1, "n_find")
    assert await code(hosted, call("n_find")) == ErrorCode.CIRCUIT_OPEN
    assert not await plugin.reconfigure(CircuitBreakerConfig.model_validate({"url": "redis://localhost"}))


async def test_order_in_protect(host: HostFactory, provider: ScriptedProvider) -> None:
    """It stands inside retry; timeout and bulkhead say themselves that they stand inside it."""
    (layer,) = breaker().plughost_middleware()
    assert (layer.phase, layer.after) == (Phase.PROTECT, {"retry"})


# -- metrics ----------------------------------------------------------------------------------------------------------


async def test_metrics_say_where_it_stands(host: HostFactory, provider: ScriptedProvider) -> None:
    """The gauge has the provider and the tools that had trouble, not those at peace; refusals are counted by scope."""
    provider.script("add", MCPError(INTERNAL_ERROR, "oops"))
    where = "plugin=circuit-breaker provider=notes"
    with collecting(meter) as collector:
        hosted = await host(breaker(), providers=[provider])
        await many(hosted, 12)
        await many(hosted, 1, "n_find")
        found = collector.points()
    assert found["plughost.circuit_breaker.state"] == {where: 0, f"{where} gen_ai.tool.name=add": 3}
    assert found["plughost.circuit_breaker.refused"] == {f"{where} circuit_breaker.scope=tool": 2}


async def test_metrics_have_a_bounded_number_of_series(host: HostFactory) -> None:
    """However many tools have trouble, a hundred of them have a series."""
    provider = ScriptedProvider("notes", tools=[f"t{number}" for number in range(150)])
    plugin = breaker()
    hosted = await host(plugin, providers=[provider])
    for number in range(150):
        await hosted.run_operation("circuit-breaker", "force-open", {"provider": "notes", "tool": f"t{number}"})
    assert len(list(plugin._tally.states())) == 100


async def test_metrics_end_with_the_plugin(host: HostFactory, provider: ScriptedProvider) -> None:
    """An instance that left is observed no more."""
    with collecting(meter) as collector:
        hosted = await host(breaker(), providers=[provider])
        await many(hosted, 1)
        assert "plughost.circuit_breaker.state" in collector.points()
        await hosted.unregister("circuit-breaker")
        assert "plughost.circuit_breaker.state" not in collector.points()


async def test_state_of_an_idle_breaker(host: HostFactory, provider: ScriptedProvider) -> None:
    """What operators see needs no call to be true: after its wait an open breaker is half-open."""
    hosted = await opened(host, provider)
    assert (await show(hosted))[None]["state"] == State.HALF_OPEN.value
