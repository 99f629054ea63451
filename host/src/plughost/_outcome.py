"""One classifier of outcomes for breaker, retry, metrics and all others: they agree on what failed."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING

from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    REQUEST_TIMEOUT,
)

from plughost._errors import ErrorCode

if TYPE_CHECKING:
    from plughost._call import Result


class Outcome(StrEnum):
    """How a call ended, seen by resilience patterns."""

    SUCCESS = "success"
    FAILURE = "failure"
    """The provider or the way to it is at fault: transport, timeout, internal error."""
    SLOW = "slow"
    """It succeeded, but took longer than it should."""
    IGNORED = "ignored"
    """The client is at fault or a policy refused: says nothing about the provider."""
    CANCELLED = "cancelled"
    """The client gave up."""


FAILURES = frozenset(
    {INTERNAL_ERROR, CONNECTION_CLOSED, REQUEST_TIMEOUT, 0, ErrorCode.TIMEOUT, ErrorCode.UPSTREAM_UNAVAILABLE}
)
"""Codes that blame the provider. 0 is what older SDK servers answer for an unhandled exception."""


def classify(
    result: Result | None = None,
    error: BaseException | None = None,
    *,
    slow: bool = False,
    tool_errors: bool = False,
) -> Outcome:
    """The outcome of a call from what it returned or raised.

    A tool's own failure (`isError: true`) counts as a success of the provider unless `tool_errors` is set.
    `input_required` is a success: the provider asks a question.
    """
    if error is not None:
        if isinstance(error, asyncio.CancelledError):
            return Outcome.CANCELLED
        if isinstance(error, MCPError):
            return Outcome.FAILURE if error.code in FAILURES else Outcome.IGNORED
        return Outcome.FAILURE
    if tool_errors and result is not None and result.get("isError") is True:
        return Outcome.FAILURE
    return Outcome.SLOW if slow else Outcome.SUCCESS
