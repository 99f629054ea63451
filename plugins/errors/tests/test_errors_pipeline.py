"""The plugin in a host, seen by a client of each era, in process and over HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp_types import ElicitRequestURLParams
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    Host,
    MCPPlugin,
    Middleware,
    Phase,
    Refusal,
    Result,
    create_host,
    hookimpl,
)
from plughost_errors import ErrorKind, ErrorsPlugin, ErrorTable

pytestmark = pytest.mark.anyio

FIELDS = {"type", "code", "message", "details", "timestamp", "requestId", "retryable"}
URL = ElicitRequestURLParams(message="Log in", url="https://example.com/login", elicitation_id="e1")


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> ConnectMode:
    mode: ConnectMode = request.param
    return mode


class QuotaError(Exception):
    pass


class Trouble(MCPPlugin):
    """Fails in GUARD as the name of the tool says, and maps one of its exceptions."""

    requires = (ErrorTable,)

    async def register(self, host: Host) -> None:
        kind = ErrorKind("quota", -32005, "Quota used up", retryable=True)
        self._forget = host.get(ErrorTable).add(QuotaError, kind)

    async def unregister(self) -> None:
        self._forget()

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.guard, Phase.GUARD, methods={"tools/call"})]

    async def guard(self, call: Call, call_next: CallNext) -> Result:
        match call.target:
            case "crash":
                raise RuntimeError("password=hunter2")
            case "quota":
                raise QuotaError("3 of 3, customer 4711")
            case "refuse":
                raise Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "Slow down", details={"limit": 1}, retry_after_ms=50)
            case _:
                return await call_next(call)


def server() -> MCPServer:
    server = MCPServer("notes")

    @server.tool()
    def fail() -> str:
        """Fail as a tool fails."""
        raise ValueError("no such note")

    @server.tool()
    def visit() -> str:
        """Send the user to a URL."""
        raise UrlElicitationRequiredError([URL])

    @server.resource("note://{name}")
    def note(name: str) -> str:
        """Any note."""
        return name

    for name in ("crash", "quota", "refuse"):
        server.tool(name=name)(lambda: "never reached")
    return server


def clock() -> MCPServer:
    server = MCPServer("clock")
    server.tool(name="now")(lambda: "noon")
    return server


@asynccontextmanager
async def hosting() -> AsyncIterator[Host]:
    plugins: list[MCPPlugin[Any]] = [Trouble(name="trouble"), ErrorsPlugin(name="errors")]
    providers = {"notes": server(), "clock": clock()}  # two: a single one is asked for names that it does not list
    async with create_host(providers=providers, plugins=plugins) as host:
        yield host


async def refused(client: Client, tool: str) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await client.call_tool(tool, {})
    return caught.value


async def test_refusal_of_a_guard(mode: ConnectMode) -> None:
    """A refusal from deep in the pipeline reaches the client with every field."""
    async with hosting() as host, Client(host.front, mode=mode) as client:
        error = await refused(client, "refuse")
    assert (error.code, error.message) == (ErrorCode.RATE_LIMIT_EXCEEDED, "Slow down")
    assert set(error.data) == FIELDS | {"retryAfterMs", "limit"}
    assert error.data["retryAfterMs"] == 50


async def test_crash_shows_nothing(mode: ConnectMode, caplog: pytest.LogCaptureFixture) -> None:
    """G7: a plugin that raises is answered generically, with the id that stands in the log beside the traceback."""
    async with hosting() as host, Client(host.front, mode=mode) as client:
        error = await refused(client, "crash")
    assert (error.code, error.message) == (-32603, "Internal server error")
    assert "hunter2" not in str(error.data)
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.name == "plughost.errors"
    assert record.__dict__["request_id"] == error.data["requestId"]
    assert "password=hunter2" in caplog.text


async def test_plugin_that_extends_the_table(mode: ConnectMode) -> None:
    """An exception that another plugin mapped, although named before this one, has its type and code."""
    async with hosting() as host, Client(host.front, mode=mode) as client:
        error = await refused(client, "quota")
    assert (error.code, error.message, error.data["type"]) == (-32005, "Quota used up", "quota")
    assert "4711" not in str(error.data)


async def test_extension_leaves_with_its_plugin() -> None:
    """When the plugin that extended the table leaves, its entry does too."""
    async with hosting() as host:
        table = host.get(ErrorTable)
        assert table.find(QuotaError()) is not None
        await host.unregister("trouble")
        assert table.find(QuotaError()) is None


async def test_unknown_tool(mode: ConnectMode) -> None:
    """A tool that no provider can have is of the type resource_not_found."""
    async with hosting() as host, Client(host.front, mode=mode) as client:
        error = await refused(client, "fly")
    assert error.data["type"] == "resource_not_found"


async def test_unknown_resource_keeps_its_uri(mode: ConnectMode) -> None:
    """A resource that does not exist keeps `uri` where the specification has it."""
    async with hosting() as host, Client(host.front, mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource("nothing://here")
    assert caught.value.data["uri"] == "nothing://here"
    assert caught.value.data["type"] == "resource_not_found"


async def test_elicitations_stay_readable() -> None:
    """The SDK's own reader still finds the URLs to visit."""
    async with hosting() as host, Client(host.front, mode="legacy") as client:
        error = await refused(client, "visit")
    assert error.data["type"] == "elicitation_required"
    assert UrlElicitationRequiredError.from_error(error.error).elicitations == [URL]


async def test_failure_of_a_tool_is_a_result(mode: ConnectMode) -> None:
    """A tool's own failure is the same result as without the plugin."""
    async with Client(server(), mode=mode) as client:
        alone = await client.call_tool("fail", {})
    async with hosting() as host, Client(host.front, mode=mode) as client:
        hosted = await client.call_tool("fail", {})
    assert hosted.is_error
    assert hosted.content == alone.content
    assert hosted.structured_content == alone.structured_content


@pytest.mark.parametrize("method", ["tools/fly", "resources/read"])
async def test_requests_that_no_provider_sees(method: str) -> None:
    """An unknown method, and parameters that fit no schema, are structured too."""
    async with hosting() as host:
        error = await post(host, method)
    assert set(error["data"]) >= FIELDS
    assert error["data"]["type"] == ("method_not_found" if method == "tools/fly" else "validation")
    assert error["data"]["requestId"] == 5


async def post(host: Host, method: str) -> dict[str, Any]:
    """Send a request of 2026-07-28 over HTTP; gives the error of the answer."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
    }
    body = {"jsonrpc": "2.0", "id": 5, "method": method, "params": {"_meta": meta}}
    transport = httpx2.ASGITransport(app=host.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        answer = await client.post("/mcp", json=body, headers=headers)
    text = answer.text.partition("data: ")[2].partition("\n")[0] if "event:" in answer.text else answer.text
    error: dict[str, Any] = json.loads(text)["error"]
    return error
