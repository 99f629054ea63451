"""What is recorded of a call, and in which stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mcp.shared.exceptions import MCPError
from opentelemetry.trace import get_current_span
from plughost import Call, Outcome, Result, classify

from plughost_events._event import LONGEST_NAME, encoded

LONGEST = 255
"""Characters of a name that a client chose."""
LARGEST_FIELD = 4096
"""Bytes of one recorded argument, as JSON."""
TYPES = {
    Outcome.SUCCESS: "call.completed",
    Outcome.SLOW: "call.completed",
    Outcome.FAILURE: "call.failed",
    Outcome.IGNORED: "call.refused",
    Outcome.CANCELLED: "call.cancelled",
}
"""Outcome → the type of the event."""

Lists = Callable[[str | None], bool]
"""Tells whether the catalog lists a public name."""
StreamOf = Callable[[Call, Lists], str]


def of_session(call: Call, lists: Lists) -> str:
    session = call.connection.session_id
    return f"session:{session}" if session else of_principal(call, lists)


def of_principal(call: Call, lists: Lists) -> str:
    """Tenant, issuer and subject: the same name at another tenant, or of another issuer, is somebody else."""
    del lists
    who = call.principal
    if who is None:
        return "principal:anonymous"
    parts = [who.tenant, who.issuer, who.subject] if who.tenant is not None else [who.issuer or None, who.subject]
    return "principal:" + "|".join(part.replace("|", "%7C") for part in parts if part is not None)


def of_tenant(call: Call, lists: Lists) -> str:
    del lists
    tenant = call.principal.tenant if call.principal else None
    return "tenant:none" if tenant is None else f"tenant:{tenant}"


def of_tool(call: Call, lists: Lists) -> str:
    """The tool or prompt; for all else, and for names that nobody lists, the provider: clients invent names."""
    if call.provider is None:
        return "provider:none"
    kind = {"tools/call": "tool", "prompts/get": "prompt"}.get(call.method)
    if kind is None or not lists(call.target):
        return f"provider:{call.provider}"
    return f"{kind}:{call.provider}/{call.local_name}"


STREAM_OF: Mapping[str, StreamOf] = {
    "session": of_session,
    "principal": of_principal,
    "tenant": of_tenant,
    "tool": of_tool,
}


def name_of_stream(text: str) -> str:
    """The name, with whatever a database does not take replaced."""
    if len(text) <= LONGEST_NAME and text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text[:LONGEST_NAME])


def describe(
    call: Call,
    result: Result | None,
    error: BaseException | None,
    seconds: float,
    *,
    arguments: Collection[str],
    results: Collection[str],
) -> tuple[str, dict[str, Any]]:
    """Type and data of the event about a call that is over. Nothing of arguments or results that nobody named (G6)."""
    outcome = classify(result, error)
    data: dict[str, Any] = {"method": call.method, "outcome": outcome.value, "duration_us": int(seconds * 1e6)}
    if call.target is not None:
        data["target"] = _uri(call.target) if call.method.startswith("resources/") else call.target[:LONGEST]
    if call.provider is not None:
        data["provider"] = call.provider
    if call.request_id is not None:
        data["request_id"] = call.request_id
    if call.connection.session_id:
        data["session"] = call.connection.session_id
    if call.protocol_version:
        data["protocol"] = call.protocol_version
    if (who := call.principal) is not None:
        data["principal"] = who.subject
        if who.issuer:
            data["issuer"] = who.issuer
        if who.tenant is not None:
            data["tenant"] = who.tenant
    if trace := _trace(call):
        data["trace"] = trace
    if error is not None:
        if isinstance(error, MCPError):
            data["code"] = int(error.code)
        elif outcome is not Outcome.CANCELLED:
            data["error"] = type(error).__name__
    elif result is not None:
        if result.get("isError") is True:
            data["tool_error"] = True
        if results:
            _pick(data, "results", result.get("structuredContent"), results)
    if arguments:
        _pick(data, "arguments", call.params.get("arguments"), arguments)
    return TYPES[outcome], data


def _pick(data: dict[str, Any], key: str, given: Any, names: Collection[str]) -> None:
    found = {name: given[name] for name in names if name in given} if isinstance(given, Mapping) else None
    if found:
        data[key] = {name: _bounded(value) for name, value in found.items()}


def _bounded(value: Any) -> Any:
    size = len(encoded({"": value})) - len('{"":}')
    return value if size <= LARGEST_FIELD else {"omitted": f"{size} bytes"}


def _uri(uri: str) -> str:
    """The URI without what may be secret: user, query, fragment."""
    try:
        parts = urlsplit(uri)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:LONGEST]
    except ValueError:
        return re.split(r"[?#]", uri)[0].rpartition("@")[2][:LONGEST]


def _trace(call: Call) -> str:
    """The trace id: that of the span in force, or the caller's where the host does not trace."""
    span = get_current_span().get_span_context()
    if span.is_valid:
        return f"{span.trace_id:032x}"
    parts = str(call.meta.get("traceparent", "")).split("-")
    known = len(parts) == 4 and re.fullmatch(r"(?!0{32})[0-9a-f]{32}", parts[1])
    return parts[1] if known else ""
