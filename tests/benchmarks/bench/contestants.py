"""The servers that are compared: each offers the tool `echo` and is an ASGI application at `/mcp`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastmcp import FastMCP
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from plughost import Call, CallNext, MCPPlugin, Middleware, Phase, Result, create_host, hookimpl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench import message
from bench.asgi import App
from bench.echo import echo, echo_server

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def lowlevel_server(tools: Sequence[str] = ("echo",)) -> Server[Any]:
    """The leanest server that the SDK offers: schema hook set, no tracing middleware."""
    listing = ListToolsResult(tools=[Tool(name=name, input_schema=SCHEMA) for name in tools])

    async def list_tools(ctx: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        return listing

    async def call_tool(ctx: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text=(params.arguments or {})["text"])])

    server: Server[Any] = Server(
        "echo", on_list_tools=list_tools, on_call_tool=call_tool, get_tool_input_schema=lambda _: None
    )
    server.middleware.clear()
    return server


def starlette() -> App:
    """The floor: JSON in, JSON out, no MCP."""

    async def endpoint(request: Request) -> JSONResponse:
        asked = await request.json()
        content = [{"type": "text", "text": asked["params"]["arguments"]["text"]}]
        return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": {"content": content}})

    return Starlette(routes=[Route(message.PATH, endpoint, methods=["POST"])])


class NoOp(MCPPlugin):
    """One middleware that does nothing."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.hand_on, Phase.GUARD, methods={"tools/call"})]

    async def hand_on(self, call: Call, call_next: CallNext) -> Result:
        return await call_next(call)


def host(
    providers: Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[MCPPlugin[Any]] = (),
    tables: Mapping[str, Mapping[str, Any]] | None = None,
) -> App:
    """The host around `providers` (default: `echo_server()`), with plugin objects and `[plugins.…]` tables."""
    config = {"host": {"control": False}, "plugins": dict(tables or {})}
    app: App = create_host(config, providers=providers or {"echo": echo_server()}, plugins=list(plugins)).app
    return app


BARE = "bare `MCPServer`, default mode"
HOST = "host, no plugins"

CONTESTANTS: Mapping[str, Callable[[], App]] = {
    BARE: lambda: echo_server().streamable_http_app(),
    HOST: host,
    "plain Starlette JSON echo (the floor)": starlette,
    "low-level `Server`, schema hook, JSON mode, no OTel": lambda: lowlevel_server().streamable_http_app(
        json_response=True
    ),
    "`MCPServer`, `json_response=True`": lambda: echo_server().streamable_http_app(json_response=True),
    "FastMCP 4.1 bare": lambda: FastMCP("echo", tools=[echo]).http_app(path=message.PATH),
}
