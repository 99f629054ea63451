"""An SDK server that speaks both eras, or with `--modern` only the newest one; on stdio, or with `--port` on HTTP.

`--legacy` makes the HTTP one refuse 2026-07-28. `--token` is what it demands as bearer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    TextContent,
)
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--modern", action="store_true")
parser.add_argument("--legacy", action="store_true")
parser.add_argument("--token")
options = parser.parse_args()

mcp = MCPServer("both", instructions="Ask nicely.")
seen: list[dict[str, str]] = []


class Name(BaseModel):
    name: str


@mcp.tool()
async def echo(text: str, ctx: Context) -> CallToolResult:
    """Give the text and the request's `_meta` back."""
    meta = ctx.request_context.meta or {}
    return CallToolResult(
        content=[TextContent(type="text", text=text)], _meta={"vendor/seen": json.loads(json.dumps(meta, default=str))}
    )


@mcp.tool()
async def revision(ctx: Context) -> str:
    """The revision that this request speaks."""
    return ctx.request_context.protocol_version


@mcp.tool()
async def ask(ctx: Context) -> str:
    """Ask in the middle of the call: legacy only."""
    answer = await ctx.elicit("Who?", Name)
    return f"{answer.action} {getattr(getattr(answer, 'data', None), 'name', '')}"


@mcp.tool()
async def need(ctx: Context) -> str | InputRequiredResult:
    """Need input: modern only."""
    responses = ctx.input_responses
    if responses:
        answer = responses["who"]
        assert isinstance(answer, ElicitResult)
        return f"hello {(answer.content or {})['name']}, {ctx.request_state}"
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    question = ElicitRequest(params=ElicitRequestFormParams(message="Who?", requested_schema=schema))
    return InputRequiredResult(input_requests={"who": question}, request_state="step-1")


@mcp.tool()
async def client(ctx: Context) -> str:
    """What the client says of itself."""
    can = ctx.session.client_capabilities
    return can.model_dump_json(by_alias=True, exclude_none=True) if can else "{}"


@mcp.tool()
async def log(ctx: Context) -> str:
    """Log something, and tell of progress."""
    await ctx.session.send_log_message("info", "info!", related_request_id=ctx.request_id)
    await ctx.report_progress(1, 2)
    return "logged"


@mcp.tool()
async def mirror(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """An argument that is mirrored into a header."""
    return region


@mcp.tool()
async def hang(mark: str) -> str:
    """Run until cancelled."""
    try:
        await anyio.sleep_forever()
    finally:
        Path(mark).write_text("cancelled")  # noqa: ASYNC240 - a small file
    return ""


@mcp.tool()
async def slow() -> str:
    """Take a second."""
    await anyio.sleep(1)
    return "slow"


@mcp.tool()
async def touch(ctx: Context) -> str:
    """Change the resource and the list of tools."""
    await ctx.notify_resource_updated("test://b")
    mcp.add_tool(late, name="late")
    await ctx.notify_tools_changed()
    return "touched"


def late() -> str:
    """Comes later."""
    return "late"


@mcp.resource("test://b")
def a() -> str:
    """A resource."""
    return "A"


@mcp.prompt()
def greet(who: str) -> str:
    """A prompt."""
    return f"Greet {who}"


async def refuse_handshake(ctx: Any, call_next: Any) -> Any:
    if ctx.method == "initialize":
        raise MCPError(-32022, "Unsupported protocol version", {"supported": ["2026-07-28"], "requested": "2025-11-25"})
    return await call_next(ctx)


if options.modern:
    mcp._lowlevel_server.middleware.append(refuse_handshake)


class Gate:
    """Sees every HTTP request before the server: keeps its headers, checks the token, refuses an era."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        headers = dict(request.headers)
        if scope["path"] == "/redirect":
            return await RedirectResponse(request.query_params["to"], 307)(scope, receive, send)
        if headers.get("mcp-name") == "abort":
            return await self.abort(send)
        if scope["path"] == "/seen":
            return await JSONResponse(seen)(scope, receive, send)
        seen.append({"method": request.method, **headers})
        if options.token and headers.get("authorization") != f"Bearer {options.token}":
            return await JSONResponse({}, 401)(scope, receive, send)
        if options.legacy and headers.get("mcp-protocol-version", "") >= "2026":
            return await JSONResponse({}, 400)(scope, receive, send)
        return await self.app(scope, receive, send)

    async def abort(self, send: Any) -> None:
        """Promise more than is sent."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})


if options.port:
    app = Gate(mcp.streamable_http_app())
    uvicorn.run(app, port=options.port, log_level="warning", timeout_graceful_shutdown=1)
else:
    mcp.run()
