"""What a line says of the request that it belongs to: fields of the Elastic Common Schema, and `mcp.*`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from mcp.shared.exceptions import MCPError
from opentelemetry.trace import get_current_span
from plughost import Call, Outcome, Result, classify

CURRENT: ContextVar[Call | None] = ContextVar("plughost_logs_call", default=None)
"""The request that runs now, in its task and in all that it starts."""

_LEVELS = {Outcome.FAILURE: logging.ERROR, Outcome.IGNORED: logging.WARNING}
_OUTCOMES = {Outcome.FAILURE: "failure", Outcome.IGNORED: "failure", Outcome.CANCELLED: "unknown"}


def correlation(call: Call | None) -> dict[str, Any]:
    """The ids that tie a line to its trace, request, session, caller and tenant."""
    found: dict[str, Any] = {}
    span = get_current_span().get_span_context()
    if span.is_valid:
        found["trace.id"], found["span.id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    if call is None:
        return found
    if "trace.id" not in found and (trace_id := _trace_of_caller(call)):
        found["trace.id"] = trace_id
    found["mcp.method.name"] = call.method
    if call.request_id is not None:
        found["mcp.request.id"] = str(call.request_id)
    if call.connection.session_id:
        found["mcp.session.id"] = call.connection.session_id
    if (principal := call.principal) is not None:
        found["user.id"] = principal.subject
        if principal.tenant is not None:
            found["organization.id"] = principal.tenant
    return found


def _trace_of_caller(call: Call) -> str:
    """The trace id in the caller's `traceparent`, in `_meta` or the HTTP header, for hosts that do not trace."""
    header = call.request.headers.get("traceparent", "") if call.request is not None else ""
    parts = str(call.meta.get("traceparent", header)).split("-")
    trace_id = parts[1].lower() if len(parts) == 4 else ""
    return trace_id if len(trace_id) == 32 and trace_id.strip("0") and not trace_id.strip("0123456789abcdef") else ""


def ending(
    call: Call, result: Result | None, error: BaseException | None, seconds: float, *, slow: bool
) -> tuple[int, str, dict[str, Any]]:
    """Level, message and fields of the line about a request that is over."""
    outcome = classify(result, error)
    tool_error = error is None and result is not None and result.get("isError") is True
    level = _LEVELS.get(outcome, logging.WARNING if tool_error or slow else logging.INFO)
    fields: dict[str, Any] = {
        "event.kind": "event",
        "event.category": ["api"],
        "event.type": ["error" if level >= logging.ERROR else "access"],
        "event.dataset": "plughost.calls",
        "event.action": call.method,
        "event.outcome": "failure" if tool_error else _OUTCOMES.get(outcome, "success"),
        "event.duration": int(seconds * 1e9),
        "mcp.protocol.version": call.protocol_version or "",
    }
    if call.target is not None and not call.method.startswith("resources/"):
        fields["mcp.target"] = call.target[:255]
    if call.provider is not None:
        fields["plughost.provider"] = call.provider
    if call.request is not None and call.request.client is not None:
        address = _address(call.request.client.host)
        if address is not None:
            fields["client.ip"] = address
    if isinstance(error, MCPError):
        fields["error.code"] = str(error.code)
    how = "tool_error" if tool_error else outcome.value
    code = f" {error.code}" if isinstance(error, MCPError) else ""
    name = f" {fields['mcp.target']}" if "mcp.target" in fields else ""
    return level, f"{call.method}{name}: {how}{code} in {seconds * 1e3:.1f} ms", fields


@lru_cache(maxsize=1024)
def _address(host: str) -> str | None:
    """An IP address as it is usually written; `None` for what a proxy made up: Elasticsearch refuses such lines."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def arguments(call: Call, names: Iterable[str]) -> dict[str, Any]:
    """The arguments of a tool call that the operator names, and no other (G6)."""
    given = call.params.get("arguments") if call.method == "tools/call" else None
    return {name: given[name] for name in names if name in given} if isinstance(given, Mapping) else {}
