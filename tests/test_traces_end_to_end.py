"""One trace across client, host and upstream, each a process of its own, and with servers that trace themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp import Client
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import get_tracer
from otlp_receiver import Collector, ReceivedSpan, http_collector
from plughost import create_host
from plughost_testing.services import HostProcess, Stack
from plughost_tracing import TracingConfig, TracingPlugin
from plughost_tracing._export import make_exporter
from plughost_tracing._process import installed

pytestmark = pytest.mark.anyio

UPSTREAM = """
import sys
from mcp.server.mcpserver import MCPServer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "upstream"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1])))
trace.set_tracer_provider(provider)
server = MCPServer("upstream")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

server.run("stdio")
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with http_collector() as running:
        yield running


def path_to_root(spans: list[ReceivedSpan], span: ReceivedSpan) -> list[tuple[str, str]]:
    """Service and name of a span and of all above it."""
    by_id = {item.span_id: item for item in spans}
    found = [(span.service, span.name)]
    while span.parent_id:
        span = by_id[span.parent_id]
        found.append((span.service, span.name))
    return found


async def test_a_trace_is_one_tree(collector: Collector, stack: Stack) -> None:
    """From the client's span over the host's to the upstream's: one trace, one root, one server span each."""
    config = {
        "providers": {"calc": {"command": [sys.executable, "upstream.py", collector.url]}},
        "plugins": {"tracing": {"endpoint": collector.url, "sample": 0.0, "interval": "100ms"}},
    }
    provider = TracerProvider(resource=Resource.create({"service.name": "client"}), shutdown_on_exit=False)
    provider.add_span_processor(
        SimpleSpanProcessor(make_exporter(TracingConfig.model_validate({"endpoint": collector.url})))
    )
    host = stack.start(HostProcess(config, files={"upstream.py": UPSTREAM}))
    with installed(provider):
        async with Client(host.url) as client:
            with get_tracer("agent").start_as_current_span("think") as root:
                await client.call_tool("add", {"a": 1, "b": 2})
            trace_id = f"{root.get_span_context().trace_id:032x}"
    host.stop()  # it exports what waits
    spans = [span for span in collector.spans if span.trace_id == trace_id]
    servers = [span for span in spans if span.kind == 2 and span.name == "tools/call add"]
    assert sorted(span.service for span in servers) == ["plughost", "upstream"]
    [far] = [span for span in servers if span.service == "upstream"]
    assert path_to_root(spans, far) == [
        ("upstream", "tools/call add"),
        ("plughost", "MCP send tools/call add"),
        ("plughost", "tools/call add"),
        ("client", "MCP send tools/call add"),
        ("client", "think"),
    ]
    assert {path_to_root(spans, span)[-1] for span in spans} == {("client", "think")}


async def test_a_fastmcp_server_in_process_adds_no_second_server_span(collector: Collector) -> None:
    """It traces by itself; the host's span is the one."""
    server: FastMCP[Any] = FastMCP("made")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    plugin = TracingPlugin(TracingConfig.model_validate({"endpoint": collector.url, "sample": 1.0}), name="tracing")
    async with create_host({}, providers={"fast": server}, plugins=[plugin]) as host, Client(host.front) as client:
        await client.call_tool("add", {"a": 1, "b": 2})
    calls = [span for span in collector.spans if span.attributes.get("mcp.method.name") == "tools/call"]
    assert [span.name for span in calls if span.kind == 2] == ["tools/call add"]
