"""What a span says of a call: the OpenTelemetry conventions for MCP, and `plughost.*`."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.shared.exceptions import MCPError
from plughost import Call, Result

CANCELLED = "cancelled"
_KIND = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}


def name_of(call: Call, *, listed: bool) -> str:
    """The span's name: the method, and the target's name if the catalog has it: others are the clients' to invent."""
    return f"{call.method} {call.target}" if call.method in _KIND and listed else call.method


def at_begin(call: Call) -> dict[str, Any]:
    """What is known when the call comes in."""
    found: dict[str, Any] = {
        "mcp.method.name": call.method,
        "mcp.protocol.version": call.protocol_version or "",
        "jsonrpc.request.id": str(call.request_id),
        "network.transport": "tcp" if call.request is not None else "pipe",
    }
    if call.connection.session_id:
        found["mcp.session.id"] = call.connection.session_id
    return found


def at_end(
    call: Call, result: Result | None, error: BaseException | None, *, listed: bool, uris: bool
) -> dict[str, Any]:
    """What is known when it is over; `listed` says whether the catalog has the target."""
    found: dict[str, Any] = {}
    if call.provider is not None:
        found["plughost.provider"] = call.provider
        if call.method in _KIND and listed:
            found[_KIND[call.method]] = call.target
    if call.method == "tools/call":
        found["gen_ai.operation.name"] = "execute_tool"
    if uris and call.method.startswith("resources/") and call.target is not None:
        found["mcp.resource.uri"] = call.target
    if (kind := error_type(result, error)) is not None:
        found["error.type"] = kind
        if isinstance(error, MCPError):
            found["rpc.response.status_code"] = str(error.code)
    return found


def error_type(result: Result | None, error: BaseException | None) -> str | None:
    """`error.type`: the JSON-RPC code, `tool_error` for a tool's own failure, `cancelled`, or an exception's class."""
    if isinstance(error, MCPError):
        return str(error.code)
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    if error is not None:
        return type(error).__qualname__
    return "tool_error" if result is not None and result.get("isError") is True else None
