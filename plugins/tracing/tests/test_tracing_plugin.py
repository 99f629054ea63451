"""Tracing in the pipeline, seen by a collector."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from threading import Event
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from otlp_receiver import Collector, grpc_collector, http_collector
from plughost import Call, CallNext, Host, MCPPlugin, Middleware, Phase, Result, hookimpl
from plughost_testing import ScriptedProvider, VirtualClock, make_call, make_host, text
from plughost_tracing import TracingConfig, TracingPlugin
from plughost_tracing._attributes import LONGEST
from plughost_tracing._export import make_exporter

pytestmark = pytest.mark.anyio

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0{}"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def collector() -> Iterator[Collector]:
    with http_collector() as running:
        yield running


@pytest.fixture
def provider() -> ScriptedProvider:
    made = ScriptedProvider("notes", tools=["add", "broken", "wrong"], resources=["note://1"])
    made.script("broken", MCPError(-32603, "it broke on secret-argument"))
    made.script("missing", MCPError(-32602, "Unknown tool"))
    made.script("wrong", {**text("no"), "isError": True})
    return made


@pytest.fixture
def traced(collector: Collector, provider: ScriptedProvider, virtual_clock: VirtualClock) -> Any:
    """A host that traces into the collector; all is exported when it is left."""

    @asynccontextmanager
    async def host(*others: MCPPlugin[Any], **config: Any) -> AsyncIterator[Host]:
        keys = {"endpoint": collector.url, "sample": 1.0, **config}
        plugin = TracingPlugin(TracingConfig.model_validate(keys), name="tracing")
        async with make_host(plugin, *others, providers=[provider], clock=virtual_clock) as running:
            yield running

    return host


def call(tool: str, **meta: Any) -> Call:
    made = make_call("tools/call", {"name": tool, "arguments": {"text": "secret-argument"}})
    made.params = {**made.params, "_meta": {**made.meta, **meta}}
    return made


async def test_a_call_is_one_server_span_with_the_attributes_of_the_conventions(
    traced: Any, collector: Collector
) -> None:
    """Method, tool, provider, protocol and request; no argument and no result (G6)."""
    async with traced() as host:
        await host.dispatch(call("add"))
    [span] = [span for span in collector.spans if span.kind == 2]
    assert (span.name, span.service, span.failed) == ("tools/call add", "plughost", False)
    assert {key: span.attributes[key] for key in span.attributes if key != "jsonrpc.request.id"} == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2026-07-28",
        "network.transport": "pipe",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "plughost.provider": "notes",
    }
    assert "secret-argument" not in repr(collector.spans)


async def test_it_continues_the_callers_trace(traced: Any, collector: Collector) -> None:
    """The span's parent is what the client sent in `_meta`."""
    async with traced(sample=0.0) as host:
        await host.dispatch(call("add", traceparent=CALLER.format(1)))
    [span] = [span for span in collector.spans if span.kind == 2]
    assert (span.trace_id, span.parent_id) == (CALLER[3:35], CALLER[36:52])


async def test_a_caller_that_does_not_sample_is_followed(traced: Any, collector: Collector) -> None:
    """Nothing of its trace is exported, unless `follow` is off."""
    async with traced() as host:
        await host.dispatch(call("add", traceparent=CALLER.format(0)))
    assert collector.spans == []
    async with traced(follow=False) as host:
        await host.dispatch(call("add", traceparent=CALLER.format(0)))
    assert [span.trace_id for span in collector.spans if span.kind == 2] == [CALLER[3:35]]


@pytest.mark.parametrize(("tool", "error"), [("broken", "-32603"), ("wrong", "tool_error"), ("missing", "-32602")])
async def test_a_failed_call_is_exported_though_it_is_not_sampled(
    traced: Any, collector: Collector, tool: str, error: str
) -> None:
    """Errors always: with the error's type and code, and without its text (G7)."""
    async with traced(sample=0.0) as host:
        for name in ("add", tool):
            try:
                await host.dispatch(call(name, traceparent=CALLER.format(0)))
            except MCPError:
                assert name != "add"
    [span] = collector.spans
    assert (span.failed, span.attributes["error.type"], span.kind) == (True, error, 2)
    assert (span.trace_id, span.parent_id) == (CALLER[3:35], CALLER[36:52])
    assert "secret" not in repr(span)


async def test_a_made_up_span_has_the_ids_that_the_provider_saw(
    traced: Any, collector: Collector, provider: ScriptedProvider
) -> None:
    """What an upstream logged or traced under them belongs to it."""
    seen: list[trace.SpanContext] = []

    async def broken(call: Call, params: Any) -> Result:
        seen.append(trace.get_current_span().get_span_context())
        raise MCPError(-32603, "no")

    provider.script("broken", broken)
    async with traced(sample=0.0) as host:
        with pytest.raises(MCPError):
            await host.dispatch(call("broken"))
    [span] = collector.spans
    assert (f"{seen[0].trace_id:032x}", f"{seen[0].span_id:016x}") == (span.trace_id, span.span_id)


async def test_errors_can_be_left_out(traced: Any, collector: Collector) -> None:
    """With `errors = false` only sampled traces are exported."""
    async with traced(sample=0.0, errors=False) as host:
        with pytest.raises(MCPError):
            await host.dispatch(call("broken"))
    assert collector.spans == []


async def test_a_cancelled_call_is_no_error(traced: Any, collector: Collector, provider: ScriptedProvider) -> None:
    """Its span says so, and does not blame the provider."""

    async def slow(call: Call, params: Any) -> Result:
        await anyio.sleep(60)
        return text("late")

    provider.script("add", slow)
    async with traced() as host:
        with anyio.move_on_after(1):
            await host.dispatch(call("add"))
    [span] = [span for span in collector.spans if span.kind == 2]
    assert (span.failed, span.attributes["error.type"]) == (False, "cancelled")


class Waiting(MCPPlugin):
    """A layer that takes its time."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name=name)
        self.seconds = seconds

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.wait, Phase.GUARD)]

    async def wait(self, call: Call, call_next: CallNext) -> Result:
        await anyio.sleep(self.seconds)
        return await call_next(call)


async def test_a_layer_that_takes_time_has_a_span(
    traced: Any, collector: Collector, provider: ScriptedProvider
) -> None:
    """With its own time, that of further layers and of the provider not counted; a quick one has none."""

    async def slow(call: Call, params: Any) -> Result:
        await anyio.sleep(5)
        return text("done")

    provider.script("add", slow)
    async with traced(Waiting("slow", 2), Waiting("quick", 0)) as host:
        await host.dispatch(call("add"))
    [server] = [span for span in collector.spans if span.kind == 2]
    inside = {span.name: span for span in collector.spans if span is not server}
    assert inside.keys() == {"layer slow", "provider notes"}
    layer = inside["layer slow"]
    assert layer.attributes == {
        "plughost.phase": "GUARD",
        "plughost.instance": "slow",
        "plughost.own_ms": pytest.approx(2000, abs=1),
    }
    assert {span.parent_id for span in inside.values()} == {server.span_id}
    assert (server.end - server.start) / 1e9 == pytest.approx(7, abs=0.01)


async def test_a_servers_own_tracing_is_not_doubled(
    traced: Any, collector: Collector, provider: ScriptedProvider
) -> None:
    """A SERVER span that a server in process opens is the host's; what its tool traces hangs under that."""
    library = trace.get_tracer("library")

    async def tool(call: Call, params: Any) -> Result:
        with (
            library.start_as_current_span("again", kind=SpanKind.SERVER),
            library.start_as_current_span("query", kind=SpanKind.CLIENT),
        ):
            return text("done")

    provider.script("add", tool)
    async with traced() as host:
        await host.dispatch(call("add"))
    [server] = [span for span in collector.spans if span.kind == 2]
    [query] = collector.named("query")
    assert (query.parent_id, query.trace_id) == (server.span_id, server.trace_id)
    assert collector.named("again") == []


@pytest.mark.parametrize("messages", [False, True])
async def test_what_errors_say_stays_here(
    traced: Any,
    collector: Collector,
    provider: ScriptedProvider,
    messages: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Libraries record exceptions and give a status their text; their type is kept, the rest only if asked for (G6)."""
    library = trace.get_tracer("library")

    async def tool(call: Call, params: Any) -> Result:
        with library.start_as_current_span("query"):
            raise ConnectionError("https://db.example/?token=secret-argument")

    provider.script("add", tool)
    async with traced(messages=messages) as host:
        with pytest.raises(MCPError):
            await host.dispatch(call("add"))
    [query] = collector.named("query")
    assert query.failed
    [event] = query.events
    assert event["exception.type"] == "ConnectionError"
    assert ("secret-argument" in repr(collector.spans)) is messages


async def test_a_span_of_the_tool_may_be_annotated(
    traced: Any, collector: Collector, provider: ScriptedProvider
) -> None:
    """The current span of a sampled call is the host's own: what a tool sets on it is exported."""

    async def tool(call: Call, params: Any) -> Result:
        trace.get_current_span().set_attribute("rows", 3)
        return text("done")

    provider.script("add", tool)
    async with traced() as host:
        await host.dispatch(call("add"))
    assert [span.attributes.get("rows") for span in collector.spans if span.kind == 2] == [3]


async def test_uris_are_named_only_if_asked_for(traced: Any, collector: Collector) -> None:
    """They may hold secrets; the span's name never has them (G6)."""
    for wanted in (False, True):
        async with traced(resource_uris=wanted) as host:
            await host.dispatch(make_call("resources/read", {"uri": "note://1"}))
    spans = [span for span in collector.spans if span.kind == 2]
    assert [span.attributes.get("mcp.resource.uri") for span in spans] == [None, "note://1"]
    assert {span.name for span in spans} == {"resources/read"}


async def test_an_invented_tool_is_in_no_name(traced: Any, collector: Collector, provider: ScriptedProvider) -> None:
    """A client cannot fill the collector with names of its own."""
    provider.script("invented", text("I take any name"))
    async with traced() as host:
        await host.dispatch(call("invented"))
    assert {span.name for span in collector.spans if span.kind == 2} == {"tools/call"}
    assert "invented" not in repr(collector.spans)


async def test_an_invented_method_is_in_no_name(traced: Any, collector: Collector) -> None:
    """Nor is one: its failure is exported, under the name that OpenTelemetry has for what is none of the known."""
    async with traced(sample=0.0) as host:
        with pytest.raises(MCPError):
            await host.dispatch(make_call(f"invented/{'x' * 5000}", {}))
    [span] = collector.spans
    assert span.name == "_OTHER"
    assert len(span.attributes["mcp.method.name"]) == LONGEST


async def test_an_exception_is_the_code_that_the_client_gets(
    traced: Any, collector: Collector, provider: ScriptedProvider
) -> None:
    """As the conventions have it: -32603, which the host makes of it where no plugin does."""
    provider.script("add", ZeroDivisionError("secret"))
    async with traced() as host:
        with pytest.raises(MCPError):
            await host.dispatch(call("add"))
    [span] = [span for span in collector.spans if span.kind == 2]
    assert (span.attributes["error.type"], span.attributes["rpc.response.status_code"]) == ("-32603", "-32603")


async def test_export_over_grpc(provider: ScriptedProvider, virtual_clock: VirtualClock) -> None:
    """With its headers, in lower case as HTTP/2 has them."""
    with grpc_collector() as collector:
        keys = {"protocol": "grpc", "endpoint": collector.url, "sample": 1, "headers": {"X-Team": "blue"}}
        plugin = TracingPlugin(TracingConfig.model_validate(keys), name="tracing")
        async with make_host(plugin, providers=[provider], clock=virtual_clock) as host:
            await host.dispatch(call("add"))
    assert [span.name for span in collector.spans if span.kind == 2] == ["tools/call add"]
    assert collector.headers[0]["x-team"] == "blue"


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to type."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'plughost-tracing\[grpc\]'"):
        make_exporter(TracingConfig(protocol="grpc"))


async def test_resource_and_headers(traced: Any, collector: Collector) -> None:
    """The service has the name that it is given, and exports carry their credentials."""
    async with traced(service_name="acme", headers={"Authorization": "Bearer t0ken"}) as host:
        await host.dispatch(call("add"))
    assert {span.service for span in collector.spans} == {"acme"}
    assert collector.headers[0]["authorization"] == "Bearer t0ken"


async def test_a_collector_that_refuses_makes_health_degraded(traced: Any, collector: Collector) -> None:
    """Calls go on, the check names the endpoint and what is lost; and when it takes spans again, all is well."""
    collector.status = 403
    async with traced() as host:
        plugin = host.instances["tracing"].plugin
        [(_, check)] = host.health_checks
        await host.dispatch(call("add"))
        await anyio.to_thread.run_sync(plugin._processor.force_flush)
        with pytest.raises(ConnectionError, match=f"do not reach {collector.url}; 2 are lost"):
            await check.check()
        assert not check.critical
        collector.status = 200
        await host.dispatch(call("add"))
        await anyio.to_thread.run_sync(plugin._processor.force_flush)
        await check.check()
        counted = {"exported": 2, "lost": 2, "dropped": 0, "waiting": 0}
        assert await host.run_operation("tracing", "show") == {**counted, "failing": False}


async def test_what_does_not_fit_into_the_queue_is_counted(
    provider: ScriptedProvider, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where spans come faster than the collector takes them: no call waits, and the log says so once."""
    full, go = Event(), Event()

    class Slow(InMemorySpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            full.set()
            assert go.wait(10)
            return super().export(spans)

    config = TracingConfig(sample=1.0, queue=4, batch=2, layers=60)
    plugin = TracingPlugin(config, name="tracing")
    async with make_host(plugin, providers=[provider], clock=virtual_clock) as host:
        plugin.exports._exporter = Slow()
        for number in range(10):
            await host.dispatch(make_call("tools/list"))
            if number == 1:
                assert full.wait(10)
        told = await host.run_operation("tracing", "show")
        go.set()
    assert (told["dropped"], told["waiting"]) == (4, 4)
    assert (plugin.exports.exported, plugin.exports.dropped) == (6, 4)
    assert len([line for line in caplog.messages if "more are dropped" in line]) == 1


async def test_a_failure_of_tracing_is_no_failure_of_the_call(
    traced: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The call is answered, and the log says that a span is missing."""
    async with traced() as host:
        plugin = host.instances["tracing"].plugin
        for step in ("begin", "end"):
            with monkeypatch.context() as broken:
                broken.setattr(plugin.spans, step, None)
                assert "isError" not in await host.dispatch(call("add"))
    lost = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lost == ["tracing: a call is not traced", "tracing: a span is lost"]
