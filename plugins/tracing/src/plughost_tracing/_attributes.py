"""What a span says of a call: the OpenTelemetry conventions for MCP, and `plughost.*`."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from mcp_types import methods as spec
from plughost import Call, Result

CANCELLED = "cancelled"
TOOL_ERROR = "tool_error"
LONGEST = 1024
"""Characters of an attribute that are kept: methods, ids and URIs are as long as a client likes."""
OTHER = "_OTHER"
"""What OpenTelemetry calls a value that is none of the known ones."""
_KIND = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}


def name_of(call: Call, *, listed: bool) -> str:
    """The span's name: method, and target if the catalog has it. What clients may invent is in no name."""
    if call.method not in spec.SPEC_CLIENT_METHODS:
        return OTHER
    return f"{call.method} {call.target}" if call.method in _KIND and listed else call.method


def attributes_of(
    call: Call, result: Result | None, error: BaseException | None, *, listed: bool, uris: bool
) -> dict[str, Any]:
    """What a span says of a call that is over; `listed` says whether the catalog has the target."""
    found: dict[str, Any] = {
        "mcp.method.name": call.method[:LONGEST],
        "mcp.protocol.version": call.protocol_version or "",
        "jsonrpc.request.id": str(call.request_id)[:LONGEST],
        "network.transport": "tcp" if call.request is not None else "pipe",
    }
    if call.connection.session_id:
        found["mcp.session.id"] = call.connection.session_id
    if call.provider is not None:
        found["plughost.provider"] = call.provider
        if call.method in _KIND and listed:
            found[_KIND[call.method]] = call.target
    if call.method == "tools/call":
        found["gen_ai.operation.name"] = "execute_tool"
    if uris and call.method.startswith("resources/") and call.target is not None:
        found["mcp.resource.uri"] = call.target[:LONGEST]
    if (kind := error_type(result, error)) is not None:
        found["error.type"] = kind
        if kind not in {CANCELLED, TOOL_ERROR}:
            found["rpc.response.status_code"] = kind
    return found


def error_type(result: Result | None, error: BaseException | None) -> str | None:
    """`error.type`: the JSON-RPC code that the client gets, `tool_error` for a tool's own failure, or `cancelled`."""
    if error is None:
        return TOOL_ERROR if result is not None and result.get("isError") is True else None
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    return str(error.code if isinstance(error, MCPError) else INTERNAL_ERROR)  # which the host makes of it
