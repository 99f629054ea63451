"""Every error code that a client of a host may see: what it means, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mcp_types import (
    CONNECTION_CLOSED,
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    UNSUPPORTED_PROTOCOL_VERSION,
    URL_ELICITATION_REQUIRED,
)
from plughost import ErrorCode


class ErrorType(StrEnum):
    """What kind of error it is: the value of `type`. Values never change; a plugin may add its own."""

    VALIDATION = "validation"
    METHOD_NOT_FOUND = "method_not_found"
    RESOURCE_NOT_FOUND = "resource_not_found"
    AUTHORIZATION = "authorization"
    ELICITATION_REQUIRED = "elicitation_required"
    TENANT_REQUIRED = "tenant_required"
    QUARANTINED = "quarantined"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    BULKHEAD_FULL = "bulkhead_full"
    CIRCUIT_OPEN = "circuit_open"
    TIMEOUT = "timeout"
    UPSTREAM = "upstream"
    SHUTTING_DOWN = "shutting_down"
    CANCELLED = "cancelled"
    INTERNAL = "internal_server_error"


RETIRED_RESOURCE_NOT_FOUND: Final = -32002
"""A missing resource, until revision 2025-11-25; servers of that age still answer it."""

OLD_UNHANDLED_EXCEPTION: Final = 0
"""What older SDK servers answer when a handler raised."""


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One row of the catalogue. `type` is that of the code; what `error.data` holds may make it more exact."""

    code: int
    name: str
    type: str
    meaning: str
    retryable: bool
    remedy: str


_ASK_LATER = "Call again after `retryAfterMs`, or with backoff if it is absent."
_READ_LOG = "Look for the request id in the host's log."

_ROWS = (
    CodeRow(
        PARSE_ERROR, "PARSE_ERROR", ErrorType.VALIDATION, "The body is not JSON.", False, "Send one JSON-RPC message."
    ),
    CodeRow(
        INVALID_REQUEST,
        "INVALID_REQUEST",
        ErrorType.VALIDATION,
        "The message is not a request that this connection takes.",
        False,
        "Compare it with the protocol revision in use.",
    ),
    CodeRow(
        METHOD_NOT_FOUND,
        "METHOD_NOT_FOUND",
        ErrorType.METHOD_NOT_FOUND,
        "No server behind the host offers the method.",
        False,
        "Read the server's capabilities before calling.",
    ),
    CodeRow(
        INVALID_PARAMS,
        "INVALID_PARAMS",
        ErrorType.VALIDATION,
        "The parameters are malformed, or name something that does not exist (then `resource_not_found`).",
        False,
        "List what exists, and follow its schema.",
    ),
    CodeRow(
        INTERNAL_ERROR,
        "INTERNAL_ERROR",
        ErrorType.INTERNAL,
        "Something failed that nobody foresaw.",
        False,
        _READ_LOG,
    ),
    CodeRow(
        OLD_UNHANDLED_EXCEPTION,
        "(none)",
        ErrorType.INTERNAL,
        "A server built on an older SDK failed in a way that nobody foresaw.",
        False,
        "Look in that server's log.",
    ),
    CodeRow(
        CONNECTION_CLOSED,
        "CONNECTION_CLOSED",
        ErrorType.UPSTREAM,
        "The connection to the server closed before it answered.",
        True,
        _ASK_LATER,
    ),
    CodeRow(
        REQUEST_TIMEOUT,
        "REQUEST_TIMEOUT",
        ErrorType.TIMEOUT,
        "The server did not answer in time.",
        True,
        _ASK_LATER,
    ),
    CodeRow(
        RETIRED_RESOURCE_NOT_FOUND,
        "(retired)",
        ErrorType.RESOURCE_NOT_FOUND,
        "The resource does not exist; revision 2026-07-28 says -32602 instead.",
        False,
        "List what exists.",
    ),
    CodeRow(
        ErrorCode.RATE_LIMIT_EXCEEDED,
        "RATE_LIMIT_EXCEEDED",
        ErrorType.RATE_LIMIT_EXCEEDED,
        "The caller used up a limit.",
        True,
        _ASK_LATER,
    ),
    CodeRow(
        ErrorCode.CIRCUIT_OPEN,
        "CIRCUIT_OPEN",
        ErrorType.CIRCUIT_OPEN,
        "The provider failed too often lately; it is left alone for a while.",
        True,
        _ASK_LATER,
    ),
    CodeRow(
        ErrorCode.TIMEOUT,
        "TIMEOUT",
        ErrorType.TIMEOUT,
        "The call took longer than it may.",
        True,
        "Call again if the call may run twice; ask for less, or raise the limit.",
    ),
    CodeRow(
        ErrorCode.BULKHEAD_FULL,
        "BULKHEAD_FULL",
        ErrorType.BULKHEAD_FULL,
        "As many calls run as may run at a time.",
        True,
        _ASK_LATER,
    ),
    CodeRow(
        ErrorCode.SHUTTING_DOWN,
        "SHUTTING_DOWN",
        ErrorType.SHUTTING_DOWN,
        "The host finishes what it began and takes no new calls.",
        True,
        "Connect again; another replica or the next process answers.",
    ),
    CodeRow(
        ErrorCode.UNAUTHORIZED,
        "UNAUTHORIZED",
        ErrorType.AUTHORIZATION,
        "The caller is not known, or may not do this.",
        False,
        "Present other credentials, or ask the operator for the permission.",
    ),
    CodeRow(
        ErrorCode.UPSTREAM_UNAVAILABLE,
        "UPSTREAM_UNAVAILABLE",
        ErrorType.UPSTREAM,
        "The server behind the host cannot be reached.",
        True,
        _ASK_LATER,
    ),
    CodeRow(
        ErrorCode.QUARANTINED,
        "QUARANTINED",
        ErrorType.QUARANTINED,
        "The definition of the target changed since the operator approved it.",
        False,
        "Ask the operator to look at the change and approve it.",
    ),
    CodeRow(
        ErrorCode.TENANT_REQUIRED,
        "TENANT_REQUIRED",
        ErrorType.TENANT_REQUIRED,
        "The call belongs to no tenant.",
        False,
        "Present credentials that name the tenant.",
    ),
    CodeRow(
        HEADER_MISMATCH,
        "HEADER_MISMATCH",
        ErrorType.VALIDATION,
        "HTTP headers are missing, or say something else than the body.",
        False,
        "Derive the headers from the body.",
    ),
    CodeRow(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        "MISSING_REQUIRED_CLIENT_CAPABILITY",
        ErrorType.VALIDATION,
        "The request needs a capability that the client did not declare.",
        False,
        "Declare what `requiredCapabilities` names, if the client has it.",
    ),
    CodeRow(
        UNSUPPORTED_PROTOCOL_VERSION,
        "UNSUPPORTED_PROTOCOL_VERSION",
        ErrorType.VALIDATION,
        "The protocol revision of the request is not served.",
        False,
        "Choose one of `supported`.",
    ),
    CodeRow(
        URL_ELICITATION_REQUIRED,
        "URL_ELICITATION_REQUIRED",
        ErrorType.ELICITATION_REQUIRED,
        "The user has to visit a URL first (revision 2025-11-25).",
        False,
        "Let the user complete what `elicitations` lists, then call again.",
    ),
)

ROW_OF: Final = {row.code: row for row in _ROWS}


def catalogue() -> list[CodeRow]:
    """All codes that the host, its plugins and the SDK answer with, highest code first: the source of the docs."""
    return sorted(_ROWS, key=lambda row: -row.code)
