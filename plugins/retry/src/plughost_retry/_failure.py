"""What a failed attempt says: whether another one may succeed, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import ErrorData
from plughost import ErrorCode, Outcome, Result, classify

NOT_CALLED = frozenset({ErrorCode.CIRCUIT_OPEN, ErrorCode.BULKHEAD_FULL})
"""Codes of attempts that were refused on the way to the provider."""


class ToolFailed(Exception):  # noqa: N818 - a result, on its way through the same code as errors
    """A tool answered `isError: true`."""

    def __init__(self, result: Result) -> None:
        super().__init__("the tool says that it failed")
        self.result = result


def may_succeed_later(error: Exception) -> bool:
    """Whether the same call may succeed if it is made again: it says so itself, or the provider is at fault.

    An open breaker ends the retries: it stands between them and the provider so that there be none.
    """
    if isinstance(error, ToolFailed):
        return True
    if isinstance(error, MCPError):
        if error.code == ErrorCode.CIRCUIT_OPEN:
            return False
        said = _data(error).get("retryable")
        if isinstance(said, bool):
            return said
        if error.code == ErrorCode.BULKHEAD_FULL:
            return True
    return classify(error=error) is Outcome.FAILURE


def reached(error: Exception) -> bool:
    """Whether an attempt got as far as the provider. What that said is the cause, not a refusal on the way there."""
    return getattr(error, "code", None) not in NOT_CALLED


def asked_wait(error: Exception) -> float | None:
    """Seconds that a failure asks to wait (`retryAfterMs`)."""
    asked = _data(error).get("retryAfterMs") if isinstance(error, MCPError) else None
    return asked / 1000 if isinstance(asked, int | float) and asked >= 0 else None


def with_attempts(error: Exception, attempts: int, stopped: str, last: Exception) -> Exception:
    """The same error, saying in `error.data` how many attempts there were and what stopped them.

    If that was an open breaker, the `last` error, it also says when to come back.

    It is a copy, of the same class: others may hold the one that was raised. Data that is no object stays as it is.
    """
    if not isinstance(error, MCPError) or not isinstance(error.data, Mapping | None):
        return error
    told = type(error).__new__(type(error), *error.args)
    told.__dict__.update(error.__dict__)
    told.__cause__, told.__traceback__ = error.__cause__, error.__traceback__
    data = {**(error.data or {}), "attempts": attempts, "stopped": stopped}
    if last is not error and isinstance(last, MCPError) and last.code == ErrorCode.CIRCUIT_OPEN:
        wait = {key: value for key, value in _data(last).items() if key == "retryAfterMs"}
        data |= {**wait, "stopped": "circuit_open"}
    told.error = ErrorData(code=error.code, message=error.message, data=data)
    return told


def _data(error: MCPError) -> Mapping[str, Any]:
    return error.data if isinstance(error.data, Mapping) else {}
