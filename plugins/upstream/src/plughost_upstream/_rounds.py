"""A modern upstream that needs input, for a legacy client: the client is asked the old way, and the call is retried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from mcp_types.methods import is_input_required

from plughost_upstream._backoff import Backoff
from plughost_upstream._exchange import Exchange
from plughost_upstream._questions import METHODS, check_askable

if TYPE_CHECKING:
    from mcp.shared.dispatcher import CallOptions

MAX_ROUNDS = 10
"""An upstream that still asks by then will not come to an end."""

Send = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


async def complete(exchange: Exchange, result: dict[str, Any], send: Send, answer_timeout: float) -> dict[str, Any]:
    """Ask the client and retry until the upstream's result is complete.

    Raises:
        MCPError: The client cannot be asked, or answered with an error; the upstream asks without end or malformed.
    """
    pause = Backoff(0.1, 0.5)
    for _ in range(MAX_ROUNDS):
        if not is_input_required(result):
            return result
        requests = result.get("inputRequests") or {}
        if requests:
            with exchange.limit.paused():
                answers: dict[str, Any] | None = await _ask_all(exchange, requests, answer_timeout)
        else:
            await anyio.sleep(pause.pause())  # it only wants to be called again
            answers = None
        retry = {**exchange.params, "inputResponses": answers, "requestState": result.get("requestState")}
        result = await send({key: value for key, value in retry.items() if value is not None})
    raise MCPError(INTERNAL_ERROR, f"The upstream asked for input more than {MAX_ROUNDS} times")


async def _ask_all(exchange: Exchange, requests: Any, answer_timeout: float) -> dict[str, Any]:
    if not isinstance(requests, Mapping):
        raise MCPError(INTERNAL_ERROR, "The upstream's inputRequests are malformed")
    answers: dict[str, Any] = {}
    problems: list[MCPError] = []

    async def ask(name: str, request: Any) -> None:
        try:
            answers[name] = await _ask(exchange, request, answer_timeout)
        except MCPError as error:
            problems.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for name, request in requests.items():
            tasks.start_soon(ask, name, request)
    if problems:
        raise problems[0]
    return answers


async def _ask(exchange: Exchange, request: Any, answer_timeout: float) -> dict[str, Any]:
    call = exchange.call
    assert call is not None
    method = request.get("method") if isinstance(request, Mapping) else None
    if method not in METHODS:
        raise MCPError(INTERNAL_ERROR, f"The upstream asks for {method!r}, which no client can answer")
    params = dict(request.get("params") or {})
    check_askable(call, method, params)
    if params.get("mode") == "url":
        params.setdefault("elicitationId", uuid4().hex)  # required before 2026-07-28
    options: CallOptions = {"timeout": answer_timeout}
    return await call.dispatch.send_raw_request(method, params or None, options)
