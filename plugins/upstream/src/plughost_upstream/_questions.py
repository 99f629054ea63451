"""Questions of a legacy upstream in the middle of a call: may this client be asked, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, ClientCapabilities
from plughost import Call

if TYPE_CHECKING:
    from mcp.shared.dispatcher import CallOptions, DispatchContext

    from plughost_upstream._exchange import Exchange

METHODS = ("sampling/createMessage", "elicitation/create", "roots/list")
OUR_CAPABILITIES: Mapping[str, Any] = {
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
    "roots": {"listChanged": True},
}
"""What is declared to a legacy upstream: its session serves many clients, and each call is answered by what its own
client can do."""


def missing_capability(can: ClientCapabilities | None, method: str, params: Mapping[str, Any]) -> str | None:
    """The capability that a client lacks to answer this question."""
    if method == "sampling/createMessage":
        if can is None or can.sampling is None:
            return "sampling"
        return "sampling.tools" if params.get("tools") and can.sampling.tools is None else None
    if method == "elicitation/create":
        if can is None or can.elicitation is None:
            return "elicitation"
        if params.get("mode") == "url":
            return "elicitation.url" if can.elicitation.url is None else None
        return "elicitation.form" if can.elicitation.form is None and can.elicitation.url is not None else None
    if method == "roots/list":
        return "roots" if can is None or can.roots is None else None
    return None


def may_be_asked(call: Call) -> bool:
    """Whether the client of this call can answer any question at all."""
    can = call.connection.client_capabilities
    return can is not None and (can.sampling, can.elicitation, can.roots) != (None, None, None)


def check_askable(call: Call, method: str, params: Mapping[str, Any]) -> None:
    """Raise unless the client declared what the question needs.

    Raises:
        MCPError: Names the missing capability.
    """
    lacking = missing_capability(call.connection.client_capabilities, method, params)
    if lacking is not None:
        problem = f"The client of this call cannot answer {method}: it did not declare the capability {lacking}"
        raise MCPError(INVALID_REQUEST, problem, {"missingCapability": lacking})


class AskDirectly:
    """Puts a question to a client of the upstream's own era: as a request, on the line of its call."""

    def __init__(self, exchange: Exchange, answer_timeout: float) -> None:
        self._exchange = exchange
        self._answer_timeout = answer_timeout

    async def __call__(self, method: str, params: Mapping[str, Any], asked: DispatchContext[Any]) -> dict[str, Any]:
        call = self._exchange.call
        assert call is not None
        check_askable(call, method, params)
        options: CallOptions = {"timeout": self._answer_timeout}
        meta = params.get("_meta")
        if isinstance(meta, Mapping) and "progressToken" in meta:
            options["on_progress"] = asked.progress
        with self._exchange.limit.paused():
            return await call.dispatch.send_raw_request(method, params or None, options)
