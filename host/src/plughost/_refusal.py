"""JSON-RPC errors that the host and its plugins answer with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from plughost._errors import ErrorCode


class Refusal(MCPError):  # noqa: N818 - the word that operators and clients read
    """Raised by middleware to refuse a call with one of `ErrorCode`.

    `details` goes to the client as `error.data`; `retry_after_ms` as `retryAfterMs` in it.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        data = dict(details or {})
        if retry_after_ms is not None:
            data["retryAfterMs"] = retry_after_ms
        super().__init__(code, message, data or None)


def unknown_target(method: str, target: str | None) -> MCPError:
    """The one answer for a target that does not exist, or that the caller may not see (A8): both alike."""
    if method in {"resources/read", "resources/subscribe", "resources/unsubscribe"}:
        return MCPError(INVALID_PARAMS, f"Unknown resource: {target}", {"uri": target})
    if method == "completion/complete":
        return MCPError(INVALID_PARAMS, "Unknown prompt or resource template")
    what = "prompt" if method == "prompts/get" else "tool" if method == "tools/call" else "target"
    return MCPError(INVALID_PARAMS, f"Unknown {what}: {target}")
