"""What is measured of calls, in a host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from mcp import MCPError
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from plughost import (
    Call,
    CallNext,
    Host,
    MCPPlugin,
    Middleware,
    Outcome,
    Phase,
    PluginError,
    Principal,
    Result,
    hookimpl,
)
from plughost_metrics import MetricsConfig, MetricsPlugin
from plughost_metrics._exposition import render
from plughost_metrics._ledger import Distribution, Ledger
from plughost_testing import HostFactory, Pause, ScriptedProvider, VirtualClock, make_call, text

pytestmark = pytest.mark.anyio

Start = Callable[..., Awaitable[Host]]


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> Any:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["add", "other"], prompts=["ask"], resources=["note://1"])


@pytest.fixture
def start(host: HostFactory, provider: ScriptedProvider) -> Start:
    async def start(*plugins: MCPPlugin[Any], **config: Any) -> Host:
        plugin = MetricsPlugin(MetricsConfig.model_validate(config), name="metrics")
        return await host(plugin, *plugins, providers=[provider])

    return start


class Between(MCPPlugin):
    """Does something to each tool call, in a phase."""

    def __init__(self, phase: Phase, what: Callable[[Call], None] | None = None, *, name: str = "between") -> None:
        super().__init__(name=name)
        self._phase = phase
        self._what = what

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.act, self._phase, methods={"tools/call"})]

    async def act(self, call: Call, call_next: CallNext) -> Result:
        if self._what is not None:
            self._what(call)
        return await call_next(call)


async def call(host: Host, name: str = "add", method: str = "tools/call") -> Result | MCPError:
    key = "uri" if method.startswith("resources") else "name"
    try:
        return await host.dispatch(make_call(method, {key: name}))
    except MCPError as error:
        return error


def series(ledger: Ledger, name: str = "mcp.server.operation.duration") -> list[tuple[dict[str, Any], Distribution]]:
    found = {metric.name: metric for metric in ledger.now()}
    return [(dict(labels), value) for labels, value in found[name].series.items()]  # type: ignore[misc]  # a histogram


async def test_a_call_is_measured_by_the_conventions(start: Start, provider: ScriptedProvider, ledger: Ledger) -> None:
    """Method, tool, provider and outcome; the time on the host's clock; at the client side the provider's share."""
    provider.script("add", [Pause(2), text("done")])
    host = await start()
    await call(host)
    expected = {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "add",
        "plughost.provider": "notes",
        "plughost.outcome": "success",
    }
    for name in ("mcp.server.operation.duration", "mcp.client.operation.duration"):
        ((labels, value),) = series(ledger, name)
        assert labels == expected
        assert (sum(value.counts), value.total) == (1, 2.0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"content": [], "isError": True}, ("tool_error", Outcome.SUCCESS)),
        (MCPError(-32603, "broken"), ("-32603", Outcome.FAILURE)),
        (MCPError(-32602, "bad"), ("-32602", Outcome.IGNORED)),
        (MCPError(-31234, "own"), ("_OTHER", Outcome.IGNORED)),
        (MCPError(0, "what older SDK servers make of an exception"), ("0", Outcome.FAILURE)),
        (RuntimeError("crash"), ("-32603", Outcome.FAILURE)),
    ],
)
async def test_errors(
    start: Start, provider: ScriptedProvider, ledger: Ledger, reply: Any, expected: tuple[str, Outcome]
) -> None:
    """`error.type` is the code where it means something, `tool_error` for a result that is one; nothing is invented."""
    provider.script("add", reply)
    await call(await start())
    ((labels, _),) = series(ledger)
    assert (labels["error.type"], labels["plughost.outcome"]) == expected


async def test_clients_cannot_make_series(start: Start, ledger: Ledger) -> None:
    """Tools, prompts and methods that do not exist are one series each; URIs and callers are no labels."""
    host = await start(Between(Phase.ADMIT, lambda call: setattr(call, "principal", Principal("eve", tenant="t1"))))
    for number in range(50):
        await call(host, f"tool-{number}")
        await call(host, f"prompt-{number}", "prompts/get")
        await call(host, f"note://{number}", "resources/read")
        await call(host, "x", f"custom/{number}")
        await call(host, "note://1")  # a name that is listed, and no tool's
    found = [labels for labels, _ in series(ledger)]
    assert {labels["mcp.method.name"] for labels in found} == {"tools/call", "prompts/get", "resources/read", "_OTHER"}
    assert {labels.get("gen_ai.tool.name") for labels in found} == {"_OTHER", None}
    assert {labels.get("gen_ai.prompt.name") for labels in found} == {"_OTHER", None}
    shown = render(ledger.now()).decode()
    assert not [word for word in ("note://", "eve", "t1", "tool-1", "custom") if word in shown]


async def test_tenants_only_if_configured(start: Start, ledger: Ledger) -> None:
    """With `tenant = true` calls are told apart by tenant, and by nothing else of the caller."""
    host = await start(
        Between(Phase.ADMIT, lambda call: setattr(call, "principal", Principal("eve", tenant="t1"))), tenant=True
    )
    await call(host)
    ((labels, _),) = series(ledger)
    assert labels["plughost.tenant"] == "t1"
    assert "eve" not in str(labels)


async def test_refused_calls_ask_no_provider(start: Start, ledger: Ledger) -> None:
    """A refusal is a call of the client, and no attempt at a provider; nor is a list that is merged from all."""

    def refuse(call: Call) -> None:
        raise MCPError(-32010, "slow down")

    host = await start(Between(Phase.GUARD, refuse))
    await call(host)
    await host.dispatch(make_call("tools/list"))
    assert {labels.get("error.type") for labels, _ in series(ledger)} == {"-32010", None}
    assert "mcp.client.operation.duration" not in {metric.name for metric in ledger.now()}


async def test_every_attempt_is_measured(start: Start, provider: ScriptedProvider, ledger: Ledger) -> None:
    """Attempts are measured inside retries: two for one call."""

    class Twice(MCPPlugin):
        @hookimpl
        def plughost_middleware(self) -> Iterable[Middleware]:
            return [Middleware(self.again, Phase.PROTECT, methods={"tools/call"}, before=("metrics",))]

        async def again(self, call: Call, call_next: CallNext) -> Result:
            await call_next(call)
            return await call_next(call)

    await call(await start(Twice(name="twice")))
    assert [sum(value.counts) for _, value in series(ledger)] == [1]
    assert [sum(value.counts) for _, value in series(ledger, "mcp.client.operation.duration")] == [2]


async def test_buckets_keep_a_trace(start: Start, ledger: Ledger) -> None:
    """Within a sampled span a bucket keeps its ids, at most once a second; outside, and unsampled, none."""

    def ids(flags: TraceFlags) -> Any:
        return trace.use_span(NonRecordingSpan(SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=flags)))

    host = await start()
    await call(host)
    with ids(TraceFlags(0)):
        await call(host)
    await host.clock.sleep(2)
    assert [value.exemplars for _, value in series(ledger)] == [{}]
    with ids(TraceFlags(TraceFlags.SAMPLED)):
        await call(host)
    ((_, value),) = series(ledger)
    (exemplar,) = value.exemplars.values()
    assert (int(exemplar.trace_id, 16), int(exemplar.span_id, 16)) == (0xAB, 0xCD)


async def test_layers_are_sampled(start: Start, provider: ScriptedProvider, ledger: Ledger) -> None:
    """Each layer is timed in one of `sample_layers` calls, by itself; with 0 none is."""
    host = await start(Between(Phase.GUARD), sample_layers=4)
    for _ in range(9):
        await call(host)
    found = {
        (labels["plughost.plugin"], labels["plughost.phase"]): value
        for labels, value in series(ledger, "plughost.layer.duration")
    }
    assert {key: sum(value.counts) for key, value in found.items()} == {
        ("between", "GUARD"): 2,
        ("metrics", "OBSERVE"): 2,
        ("metrics", "PROTECT"): 2,
    }
    await host.unregister("metrics")
    await host.register(MetricsPlugin(MetricsConfig(sample_layers=0), name="metrics"))
    await call(host)
    assert "plughost.layer.duration" not in {metric.name for metric in ledger.now()}


async def test_host_and_events(start: Start, provider: ScriptedProvider, ledger: Ledger) -> None:
    """Providers, calls in flight and events of all plugins are there without a word of the plugins."""
    host = await start()
    await host.clock.sleep(1)
    found = {metric.name: metric.series for metric in ledger.now()}
    assert found["plughost.provider.up"][("plughost.provider", "notes"),] == 1
    assert found["plughost.host.calls.in_flight"] == {(): 0}
    assert ("plughost.event.type", "host.started") in {pair for labels in found["plughost.events"] for pair in labels}


async def test_a_second_instance_is_refused(start: Start) -> None:
    """Two instances would count every call twice."""
    host = await start()
    with pytest.raises(PluginError, match="would count every call that 'metrics' counts again"):
        await host.register(MetricsPlugin(name="more"))


async def test_what_cannot_be_counted_is_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When counting fails the client has its answer all the same."""
    host = await start()
    monkeypatch.setattr(Distribution, "record", None)
    assert not isinstance(await call(host), MCPError)
    assert "a call was not counted" in caplog.text


async def test_show(start: Start) -> None:
    """The operation names each metric and how many series it has."""
    host = await start()
    await call(host)
    shown = await host.run_operation("metrics", "show")
    assert shown["metrics"]["mcp.server.operation.duration"] == 1
    assert shown["series"] == sum(shown["metrics"].values())
