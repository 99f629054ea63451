"""The structure of an error: what `error.data` holds. Knows neither hooks nor the clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from plughost import unknown_target

from plughost_errors._catalogue import ROW_OF, ErrorType
from plughost_errors._table import ErrorKind

ADVICE = frozenset({"retryable", "retryAfterMs"})
"""Fields of the structure that a refusal may state itself; `details` does not repeat them."""


def translated(error: Exception, kind: ErrorKind | None, internal_message: str) -> MCPError:
    """An exception as a protocol error. Of one that nobody mapped, and of its text, nothing is left (G7)."""
    if isinstance(error, MCPError):
        return error
    if kind is None:
        return MCPError(INTERNAL_ERROR, internal_message)
    return MCPError(kind.code, kind.message)


def structured(
    error: MCPError,
    kind: ErrorKind | None,
    *,
    method: str,
    target: str | None,
    request_id: str | int | None,
    now: float,
) -> MCPError:
    """The same code and message with a structured `data`. `now` is in seconds since the epoch.

    What was in `data` stands in `details`, and each key also stays where clients look for it (`uri`, `supported`,
    `elicitations`, a server's own), unless the structure has a field of that name.
    """
    code, message, before = int(error.code), error.message, error.data
    found = before if isinstance(before, Mapping) else {}
    data = {
        **found,
        "type": str(kind.type if kind is not None else type_of(error, method, target)),
        "code": code,
        "message": message,
        "details": details_of(before),
        "timestamp": rfc3339(now),
        "requestId": request_id,
        "retryable": _retryable(code, found, kind),
    }
    return MCPError(code, message, data)


def type_of(error: MCPError, method: str, target: str | None) -> str:
    """The type of a protocol error. A code that is not in the catalogue is a server's own, so `upstream`."""
    if error.code == INVALID_PARAMS and _is_missing(error, method, target):
        return ErrorType.RESOURCE_NOT_FOUND
    row = ROW_OF.get(error.code)
    return row.type if row else ErrorType.UPSTREAM


def _is_missing(error: MCPError, method: str, target: str | None) -> bool:
    # Only what is answered decides: where the refusal came from would tell a hidden target from a missing one (A8).
    if method.startswith("resources/"):
        return isinstance(error.data, Mapping) and "uri" in error.data
    return target is not None and error.message == unknown_target(method, target).message


def details_of(data: Any) -> dict[str, Any]:
    """What was in `error.data`, as an object: `{"value": …}` around anything else, empty if there was nothing."""
    if isinstance(data, Mapping):
        return {key: value for key, value in data.items() if key not in ADVICE}
    return {} if data in (None, "") else {"value": data}


def _retryable(code: int, found: Mapping[str, Any], kind: ErrorKind | None) -> bool:
    stated = found.get("retryable")
    if isinstance(stated, bool):
        return stated
    if kind is not None:
        return kind.retryable
    return code in ROW_OF and ROW_OF[code].retryable


def rfc3339(seconds: float) -> str:
    """A time in UTC, to the millisecond: `2026-11-22T08:30:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
