"""The pipeline: which middleware a call meets, and in what order."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import wraps
from itertools import count
from typing import Any

import anyio
import pytest
from asgi_wire import LegacySession, post, request
from asgi_wire import call as call_tool
from doubles import Around, StubProvider, host_of, text
from mcp import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_PARAMS, JSONRPCError, JSONRPCRequest
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    GuardConfig,
    Handler,
    Host,
    HostEvent,
    Match,
    MCPPlugin,
    Middleware,
    Phase,
    PluginError,
    PluginTable,
    Principal,
    Refusal,
    Result,
    hookimpl,
)
from plughost._pipeline import Layer, Pipeline, layers_of, order, traced
from plughost._sdk import host_call

pytestmark = pytest.mark.anyio


async def passes(call: Call, call_next: CallNext) -> Result:
    return await call_next(call)


def layer(
    instance: str,
    phase: Phase = Phase.GUARD,
    *,
    plugin: str = "",
    match: Match | None = None,
    methods: Iterable[str] | None = None,
    before: Iterable[str] = (),
    after: Iterable[str] = (),
) -> Layer:
    middleware = Middleware(passes, phase, methods=methods, before=before, after=after)
    owner = MCPPlugin[Any](name=instance)
    return layers_of(owner, plugin or instance, match, [middleware], lambda _: None)[0]


def names(layers: Iterable[Layer]) -> list[str]:
    return [item.instance for item in layers]


# -- order -------------------------------------------------------------------------------------------------------------


def test_phases_stand_outside_in() -> None:
    """Whatever the order of registration, OBSERVE is outermost and PROTECT innermost."""
    layers = [layer(phase.name, phase) for phase in reversed(Phase)]
    assert names(order(layers)) == ["OBSERVE", "ADMIT", "TRANSFORM", "GUARD", "REUSE", "PROTECT"]


def test_within_a_phase_the_name_decides() -> None:
    assert names(order([layer("c"), layer("a"), layer("b")])) == ["a", "b", "c"]


def test_before_and_after_outrank_the_name() -> None:
    layers = [layer("a", after=["b"]), layer("b"), layer("z", before=["b"])]
    assert names(order(layers)) == ["z", "b", "a"]


def test_a_constraint_names_every_instance_of_a_plugin() -> None:
    layers = [layer("a", after=["limit"]), layer("x", plugin="limit"), layer("y", plugin="limit")]
    assert names(order(layers)) == ["x", "y", "a"]


def test_a_plugin_is_no_constraint_on_itself() -> None:
    """Two instances of one plugin that wants to be after itself stand by name."""
    layers = [layer("y", plugin="limit", after=["limit"]), layer("x", plugin="limit", after=["limit"])]
    assert names(order(layers)) == ["x", "y"]


def test_constraints_on_absent_plugins_are_ignored() -> None:
    assert names(order([layer("b", before=["nobody"]), layer("a", after=["nobody"])])) == ["a", "b"]


def test_a_constraint_on_another_phase_is_ignored() -> None:
    """Phases decide first; nobody in PROTECT can be before GUARD."""
    layers = [layer("inner", Phase.PROTECT, before=["outer"]), layer("outer", Phase.GUARD)]
    assert names(order(layers)) == ["outer", "inner"]


def test_a_cycle_is_printed() -> None:
    """The message names the phase and prints who would have to stand before whom."""
    layers = [layer("a", before=["b"]), layer("b", before=["c"]), layer("c", before=["a"])]
    with pytest.raises(PluginError, match="in GUARD form a cycle: a -> b -> c -> a"):
        order(layers)


# -- which calls a layer takes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "method", "target", "fits"),
    [
        (Match(provider="fi*"), "tools/call", "read", True),
        (Match(provider="mail"), "tools/call", "read", False),
        (Match(tool="re*"), "tools/call", "read", True),
        (Match(tool="files_*"), "tools/call", "read", False),  # the public name; matches are on the provider's own
        (Match(tool="re*", provider="mail"), "tools/call", "read", False),
        (Match(tool="*"), "prompts/get", "read", False),
        (Match(tool="*", prompt="*"), "prompts/get", "read", True),
        (Match(resource="note://*"), "resources/read", "note://1", True),
        (Match(resource="note://*"), "resources/subscribe", "note://1", True),
        (Match(resource="note://*"), "resources/read", "mail://1", False),
        (Match(tool="*"), "tools/list", None, False),
        (Match(tenant="acme"), "tools/call", "read", True),  # decided in the call
    ],
)
def test_names_in_match_are_the_providers_own(match: Match, method: str, target: str | None, *, fits: bool) -> None:
    call = host_call(method, {"uri" if method.startswith("resources") else "name": f"files_{target}"})
    if target is not None:
        call.provider, call.local_name = "files", target
    assert layer("x", match=match).concerns(call) is fits


def test_a_match_before_resolution_is_refused() -> None:
    """In TRANSFORM nobody knows the provider yet, so a match there could not be decided."""
    with pytest.raises(PluginError, match="stands in TRANSFORM, where the target is not resolved"):
        layer("x", Phase.TRANSFORM, match=Match(tool="a"))


@pytest.mark.parametrize("key", ["tenant", "principal"])
def test_a_match_on_the_caller_before_guard_is_refused(key: str) -> None:
    with pytest.raises(PluginError, match="stands in ADMIT"):
        layer("x", Phase.ADMIT, match=Match(**{key: "a"}))


def test_a_match_on_names_cannot_filter_a_list() -> None:
    """A merged list belongs to no single provider or tool, so such a filter would never run, or hide nothing."""
    with pytest.raises(PluginError, match="filters 'tools/list', which belongs to no single provider"):
        layer("x", match=Match(tool="a"), methods=["tools/list", "tools/call"])


@pytest.mark.parametrize("phase", [Phase.REUSE, Phase.PROTECT])
def test_further_in_a_match_on_names_leaves_lists_out(phase: Phase) -> None:
    """Nothing there is for filtering: a cache for the tools of one provider leaves the lists to others."""
    found = layer("x", phase, match=Match(provider="a"), methods=["tools/list", "tools/call"])
    assert not found.concerns(host_call("tools/list"))


def test_notifications_reach_observe_only() -> None:
    with pytest.raises(PluginError, match="'notifications/cancelled' in GUARD; only OBSERVE sees it"):
        layer("x", methods=["notifications/cancelled"])


def test_what_a_hook_returns_must_be_middleware() -> None:
    with pytest.raises(PluginError, match="returned 'greet', which is not a Middleware"):
        layers_of(MCPPlugin[Any](name="p"), "p", None, ["greet"], lambda _: None)  # type: ignore[list-item]


def plainly(call: Call, call_next: CallNext) -> Any:
    return call_next(call)


async def alone(call: Call) -> Any:
    return {}


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (plainly, r"^the handler plainly is a plain def, and is awaited; write async def$"),
        (alone, r"^the handler alone\(call: 'Call'\) -> 'Any' does not take \(call, call_next\)$"),
    ],
)
def test_a_handler_is_async_and_takes_two(handler: Any, message: str) -> None:
    """A handler that could not be called says so when the middleware is made, not in the first call."""
    with pytest.raises(TypeError, match=message):
        Middleware(handler, Phase.GUARD)


def test_a_plain_handler_may_hand_on_what_is_awaited() -> None:
    """It saves a coroutine where there is nothing to do; its annotation tells it from a mistake."""

    def onward(call: Call, call_next: CallNext) -> Awaitable[Result]:
        return call_next(call)

    assert Middleware(onward, Phase.GUARD).handler is onward


def test_a_decorated_handler_is_what_it_wraps() -> None:
    """A decorator that hands on what the handler returns leaves it one that is awaited."""

    async def handler(call: Call, call_next: CallNext) -> Result:
        return await call_next(call)

    @wraps(handler)
    def decorated(*args: Any) -> Any:
        return handler(*args)

    assert Middleware(decorated, Phase.GUARD).handler is decorated


class Settings:
    """What somebody took for a config."""


def test_a_config_is_a_plugin_config() -> None:
    """A config of another base would be ignored in silence, with all its keys."""
    with pytest.raises(TypeError, match="Settings is the config of Mine; derive it from PluginConfig"):

        class Mine(MCPPlugin[Settings]):  # type: ignore[type-var]  # which is what mypy says, too
            pass


def test_no_methods_means_all_requests_and_no_notification() -> None:
    found = layer("x", Phase.OBSERVE)
    assert found.takes("tools/call")
    assert found.takes("vendor/custom")
    assert not found.takes("notifications/progress")


def test_layers_that_do_not_concern_a_call_cost_nothing() -> None:
    """They are left out of its chain: what remains is the end itself."""

    async def end(call: Call) -> Result:
        return {}

    pipeline = Pipeline([layer("a", methods=["prompts/get"]), layer("b", match=Match(tool="other"))])
    call = host_call("tools/call", {"name": "t"})
    call.provider, call.local_name = "p", "t"
    assert pipeline.inner(call, end) is end


# -- calls through a host ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def hosting(*plugins: MCPPlugin[Any], tables: dict[str, PluginTable] | None = None) -> AsyncIterator[Host]:
    """A host over the provider `p` with the tools `t` and `u`; plugins named in `tables` are added with their table."""
    tables = tables or {}
    async with host_of(
        StubProvider("p", ["t", "u"]), plugins=[item for item in plugins if item.name not in tables]
    ) as host:
        for item in plugins:
            if item.name in tables:
                await host.register(item, tables[item.name])
        yield host


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_n_middleware_are_n_layers(mode: str) -> None:
    """A call walks in through each of them once and out again in reverse."""
    trace: list[str] = []
    plugins = [Around(f"{phase}{number}", phase, trace=trace) for phase in Phase for number in range(3)]
    async with hosting(*plugins) as host, Client(host.front, mode=mode) as client:
        trace.clear()
        await client.call_tool("t", {})
    inward = [f"+{phase}{number}" for phase in Phase for number in range(3)]
    assert trace == [*inward, *(step.replace("+", "-") for step in reversed(inward))]


async def test_the_chain_that_is_shown_is_the_chain_that_runs() -> None:
    trace: list[str] = []
    plugins = [Around(name, phase, trace=trace) for name, phase in (("z", Phase.GUARD), ("a", Phase.PROTECT))]
    async with hosting(*plugins) as host:
        await call_tool(host.app, "t")
        shown = [step["instance"] for step in host.chain("t")]
    assert shown == [step[1:] for step in trace if step.startswith("+")] == ["z", "a"]


async def test_a_refusal_reaches_the_client_and_not_the_provider() -> None:
    async def refuse(call: Call, call_next: CallNext) -> Result:
        raise Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "too many", retry_after_ms=500)

    inner = Around("inner", Phase.PROTECT)
    async with hosting(Around("limit", handler=refuse), inner) as host:
        response = await call_tool(host.app, "t")
    assert response["error"] == {"code": -32010, "message": "too many", "data": {"retryAfterMs": 500}}
    assert inner.trace == []


async def test_one_middleware_may_ask_several_times() -> None:
    """Retry calls the rest of the chain again; every layer inside runs each time."""

    async def twice(call: Call, call_next: CallNext) -> Result:
        await call_next(call)
        return await call_next(call)

    trace: list[str] = []
    plugins = [Around("a", Phase.REUSE, handler=twice), Around("b", Phase.PROTECT, trace=trace)]
    async with hosting(*plugins) as host:
        await call_tool(host.app, "t")
    assert trace == ["+b", "-b", "+b", "-b"]


@pytest.mark.parametrize("legacy", [True, False])
async def test_a_made_up_answer_gets_the_envelope_of_its_era(*, legacy: bool) -> None:
    """What no provider shaped is finished by the host, and holds nothing that an earlier revision does not know."""

    async def answer(call: Call, call_next: CallNext) -> Result:
        return {**text("made up"), "resultType": "complete"}

    async with hosting(Around("cache", Phase.REUSE, handler=answer)) as host:
        if legacy:
            session = LegacySession(host.app)
            await session.open()
            result = (await session.ask("tools/call", {"name": "t"}))["result"]
            assert result == text("made up")
        else:
            result = (await call_tool(host.app, "t"))["result"]
            assert result["resultType"] == "complete"
            assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "plughost"


async def test_a_match_limits_an_instance_to_its_tools() -> None:
    trace: list[str] = []
    limit = Around("limit", trace=trace)
    async with hosting(limit, tables={"limit": PluginTable(match=Match(tool="t"))}) as host:
        await call_tool(host.app, "u")
        assert trace == []
        await call_tool(host.app, "t")
    assert trace == ["+limit", "-limit"]


@pytest.mark.parametrize(
    ("match", "who", "runs"),
    [
        (Match(tenant="acme"), Principal("ada", tenant="acme"), True),
        (Match(tenant="acme"), Principal("ada", tenant="other"), False),
        (Match(tenant="acme"), None, False),
        (Match(principal="ad*"), Principal("ada"), True),
        (Match(principal="ad*"), Principal("bob"), False),
        (Match(principal="ad*", tenant="acme"), Principal("ada"), False),
    ],
)
async def test_a_match_on_the_caller_is_decided_in_the_call(match: Match, who: Principal | None, *, runs: bool) -> None:
    async def authenticate(call: Call, call_next: CallNext) -> Result:
        call.principal = who
        return await call_next(call)

    limit = Around("limit")
    auth = Around("auth", Phase.ADMIT, handler=authenticate)
    async with hosting(auth, limit, tables={"limit": PluginTable(match=match)}) as host:
        await call_tool(host.app, "t")
    assert limit.trace == (["+limit", "-limit"] if runs else [])


class Guards(GuardConfig):
    """A config with `fail_mode` and `mode`."""


def guarding(fault: Exception, **config: str) -> Around:
    async def raises(call: Call, call_next: CallNext) -> Result:
        raise fault

    return Around("guard", handler=raises, config=Guards.model_validate(config))


def told(plugins: Sequence[Around]) -> list[str]:
    return [str(event.type) for item in plugins for event in item.events]


async def test_a_guard_that_fails_refuses() -> None:
    """G1: an exception in a guard is no permission; G7: the client learns a request id and nothing more."""
    async with hosting(guarding(KeyError("internal detail"))) as host:
        response = await call_tool(host.app, "t")
    assert response["error"] == {"code": -32603, "message": "Internal error", "data": {"requestId": 1}}


async def test_a_guard_may_fail_open(caplog: pytest.LogCaptureFixture) -> None:
    """G1: with fail_mode = "open" the call passes, and that is counted as an event and logged."""
    guard = guarding(KeyError("backend lost"), fail_mode="open")
    async with hosting(guard) as host:
        response = await call_tool(host.app, "t")
    assert response["result"]["content"] == text("p:t")["content"]
    assert EventType.FAIL_OPEN in told([guard])
    assert "passes, since fail_mode is open" in caplog.text


async def test_a_guard_that_keeps_failing_open_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1: each call that passes is an event; the log has one traceback, then a number now and then, then the end."""
    minute = 0.0
    monkeypatch.setattr("plughost._pipeline.anyio.current_time", lambda: minute)
    broken = True

    async def decide(call: Call, call_next: CallNext) -> Result:
        if broken:
            raise KeyError("backend lost")
        return await call_next(call)

    guard = Around("guard", handler=decide, config=Guards(fail_mode="open"))
    async with hosting(guard) as host:
        for minute in (0, 1, 59, 61, 62, 63):
            broken = minute < 63
            await call_tool(host.app, "t")
        minute = 130
        await call_tool(host.app, "t")
    assert told([guard]).count(EventType.FAIL_OPEN) == 5
    lines = [(line.getMessage(), line.exc_info is not None) for line in caplog.records if "guard" in line.getMessage()]
    assert lines == [
        ("guard failed; <Call tools/call t -> p/t> passes, since fail_mode is open", True),
        ("guard still fails (KeyError: 'backend lost'); 4 calls have passed, since fail_mode is open", False),
        ("guard works again; 5 calls had passed", False),
    ]


async def test_no_event_is_lost() -> None:
    """G1: calls that pass a guard are counted, however many they are while the host waits for a provider's lists."""
    watch = Around("watch")
    async with hosting(watch) as host:
        for _ in range(25_000):
            host.publish(HostEvent(EventType.FAIL_OPEN, "guard"))
        await anyio.wait_all_tasks_blocked()
    assert told([watch]).count(EventType.FAIL_OPEN) == 25_000


async def test_a_plugin_that_publishes_when_told_is_told_in_turn() -> None:
    """Also while the queue is full: it is not called again within its own call."""
    depths: list[int] = []

    class Echo(MCPPlugin):
        depth = 0

        @hookimpl
        def plughost_event(self, event: HostEvent) -> None:
            self.depth += 1
            depths.append(self.depth)
            if event.type is EventType.FAIL_OPEN:
                host.publish(HostEvent("echo", "guard"))
                host.publish(HostEvent("echo", "guard"))
            self.depth -= 1

    async with hosting(Echo(name="echo")) as host:
        for _ in range(10_000):
            host.publish(HostEvent(EventType.FAIL_OPEN, "guard"))
        await anyio.wait_all_tasks_blocked()
    assert len(depths) >= 30_000
    assert set(depths) == {1}


async def test_a_refusal_is_no_failure() -> None:
    """fail_mode = "open" lets faults pass, not decisions."""
    async with hosting(guarding(Refusal(ErrorCode.UNAUTHORIZED, "no"), fail_mode="open")) as host:
        response = await call_tool(host.app, "t")
    assert response["error"]["code"] == ErrorCode.UNAUTHORIZED


async def test_an_observing_guard_refuses_nothing() -> None:
    """With mode = "observe" the call passes, and what would have happened is told."""
    guard = guarding(Refusal(ErrorCode.UNAUTHORIZED, "no"), mode="observe")
    async with hosting(guard) as host:
        response = await call_tool(host.app, "t")
    assert "result" in response
    assert EventType.WOULD_REFUSE in told([guard])


@pytest.mark.parametrize("config", [{"mode": "observe"}, {"fail_mode": "open"}])
async def test_an_error_from_inside_is_not_the_guards(config: dict[str, str]) -> None:
    """What the provider answered is handed out, and the provider is not asked a second time."""
    calls: list[str] = []

    async def fails(call: Call, params: Any) -> dict[str, Any]:
        calls.append("asked")
        raise Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "down")

    guard = Around("guard", config=Guards.model_validate(config))
    async with host_of(StubProvider("p", ["t"], answer=fails), plugins=[guard]) as host:
        response = await call_tool(host.app, "t")
    assert response["error"]["code"] == ErrorCode.UPSTREAM_UNAVAILABLE
    assert calls == ["asked"]


async def test_a_guard_that_fails_after_several_attempts_hands_out_the_answer() -> None:
    """G1: of attempts that failed, were answered and were cancelled, the answer counts when fail_mode is open."""
    asked = count(1)

    async def answer(call: Call, params: Any) -> dict[str, Any]:
        match next(asked):
            case 1:
                raise Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "down")
            case 2:
                return text("the answer")
            case _:
                await anyio.sleep(3600)
                return text("too late")

    async def try_thrice(call: Call, call_next: CallNext) -> Result:
        with suppress(Refusal):
            await call_next(call)
        await call_next(call)
        with anyio.move_on_after(0):
            await call_next(call)
        raise KeyError("lost count")

    guard = Around("guard", handler=try_thrice, config=Guards(fail_mode="open"))
    async with host_of(StubProvider("p", ["t"], answer=answer), plugins=[guard]) as host:
        response = await call_tool(host.app, "t")
    assert response["result"]["content"] == text("the answer")["content"]


async def test_a_call_that_a_guard_cancelled_itself_is_refused() -> None:
    """Where the provider was asked and gave no answer there is none to let pass, not even in mode = "observe"."""

    async def cut(call: Call, call_next: CallNext) -> Result:
        with anyio.move_on_after(0):
            return await call_next(call)
        raise Refusal(ErrorCode.TIMEOUT, "too slow")

    async def hang(call: Call, params: Any) -> dict[str, Any]:
        await anyio.sleep(3600)
        return text("too late")

    guard = Around("guard", handler=cut, config=Guards(mode="observe"))
    async with host_of(StubProvider("p", ["t"], answer=hang), plugins=[guard]) as host:
        response = await call_tool(host.app, "t")
    assert response["error"]["code"] == ErrorCode.TIMEOUT


# -- what each kind of message passes ----------------------------------------------------------------------------------


async def test_the_handshake_passes_observe_only() -> None:
    """`initialize`, `ping` and `server/discover` are seen by OBSERVE; a guard on everything never sees them."""
    seen = {phase: Around(phase.name, phase, methods=None) for phase in (Phase.OBSERVE, Phase.GUARD)}
    methods: dict[Phase, list[str]] = {phase: [] for phase in seen}
    for phase, plugin in seen.items():

        async def note(call: Call, call_next: CallNext, into: list[str] = methods[phase]) -> Result:
            into.append(call.method)
            return await call_next(call)

        plugin.middleware = Middleware(note, phase)
    async with hosting(*seen.values()) as host:
        session = LegacySession(host.app)
        await session.open()
        await session.ask("ping")
        await post(host.app, request("server/discover"))
        await post(host.app, request("tools/list"))
    assert methods == {
        Phase.OBSERVE: ["initialize", "ping", "server/discover", "tools/list"],
        Phase.GUARD: ["tools/list"],
    }


async def test_admit_may_veto_initialize() -> None:
    """A draining host takes no new sessions."""

    async def refuse(call: Call, call_next: CallNext) -> Result:
        raise Refusal(ErrorCode.SHUTTING_DOWN, "going down")

    async with hosting(Around("shutdown", Phase.ADMIT, handler=refuse, methods=None)) as host:
        session = LegacySession(host.app)
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        assert (await session.ask("initialize", params))["error"]["code"] == ErrorCode.SHUTTING_DOWN
        assert "result" in (await post(host.app, request("server/discover"))).message


async def test_notifications_reach_observe_that_names_them() -> None:
    seen: list[str] = []

    class Watching(MCPPlugin):
        @hookimpl
        def plughost_middleware(self) -> list[Middleware]:
            named = {"notifications/initialized", "notifications/roots/list_changed"}
            return [Middleware(self.note, Phase.OBSERVE, methods=named)]

        async def note(self, call: Call, call_next: CallNext) -> Result:
            seen.append(call.method)
            return await call_next(call)

    async with hosting(Watching(name="watch")) as host:
        session = LegacySession(host.app)
        await session.open()
        await session.post({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
        await session.ask("ping")
    assert seen == ["notifications/initialized", "notifications/roots/list_changed"]


async def test_a_cached_answer_waits_for_the_handshake() -> None:
    """A session that never initialized gets no answer, also not from a cache above the provider."""

    async def cached(call: Call, call_next: CallNext) -> Result:
        return text("cached")

    message = JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call", params={"name": "t"})
    async with (
        hosting(Around("cache", Phase.REUSE, handler=cached)) as host,
        InMemoryTransport(host.front) as (read, write),
    ):
        await write.send(SessionMessage(message))
        answer = await read.receive()
    assert isinstance(answer, SessionMessage)
    assert isinstance(answer.message, JSONRPCError)
    assert answer.message.error.code == INVALID_PARAMS


# -- tracing -----------------------------------------------------------------------------------------------------------


async def test_tracing_logs_each_layer_with_its_own_time(caplog: pytest.LogCaptureFixture) -> None:
    """One line per layer and call, innermost first: phase, instance, time, method and target."""
    caplog.set_level(logging.INFO, "plughost.trace")
    pipeline = Pipeline([traced(layer("outer", Phase.OBSERVE)), traced(layer("guard"))])

    async def end(call: Call) -> Result:
        return {}

    call = host_call("tools/call", {"name": "t"})
    chain = pipeline.outer(call.method, pipeline.inner(call, end))
    await chain(call)
    lines = [record.getMessage().split() for record in caplog.records]
    assert [(line[0], line[1], line[3:]) for line in lines] == [
        ("GUARD", "guard", ["us", "tools/call", "t"]),
        ("OBSERVE", "outer", ["us", "tools/call", "t"]),
    ]


class Wrapper(MCPPlugin):
    """Writes down when it is walked in place of others."""

    def __init__(self, name: str, wrapped: str, trace: list[str]) -> None:
        super().__init__(name=name)
        self.wrapped = wrapped
        self.trace = trace

    @hookimpl
    def plughost_layer(self, instance: str, phase: Phase, handler: Handler) -> Handler | None:
        async def walk(call: Call, call_next: CallNext) -> Result:
            self.trace.append(f"{self.name} around {instance} in {phase.name}")
            return await handler(call, call_next)

        if self.wrapped == "!":
            raise ValueError("no")
        return walk if instance == self.wrapped else None


async def test_a_plugin_may_stand_around_the_layers_of_others() -> None:
    """Only where it wants to; several stack, and when one leaves, its wrappers do."""
    trace: list[str] = []
    plugins = [Wrapper("w", "a", trace), Wrapper("x", "a", trace), Around("a", Phase.GUARD), Around("b", Phase.GUARD)]
    async with hosting(*plugins) as host, Client(host.front) as client:
        await client.call_tool("t", {})
        assert trace == ["x around a in GUARD", "w around a in GUARD"]
        await host.unregister("x")
        trace.clear()
        await client.call_tool("t", {})
        assert trace == ["w around a in GUARD"]


async def test_a_plugin_that_fails_to_wrap_is_refused() -> None:
    """The message names it and the hook; what runs goes on without it."""
    async with hosting(Around("a", Phase.GUARD)) as host:
        with pytest.raises(PluginError, match=r"plugin 'w' .*plughost_layer raised ValueError: no"):
            await host.register(Wrapper("w", "!", []))
        assert "w" not in host.instances
