"""Carries one call over to a session: raw within one era, translated between the eras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import HEADER_MISMATCH, URL_ELICITATION_REQUIRED
from mcp_types.methods import is_input_required
from plughost import Call, Kind

from plughost_upstream._config import Upstream
from plughost_upstream._exchange import Exchange
from plughost_upstream._lane import Lane
from plughost_upstream._questions import missing_capability
from plughost_upstream._rounds import complete
from plughost_upstream._seal import Seal
from plughost_upstream._session import Session
from plughost_upstream._shape import shape_error, shape_result

_AGAIN = "again"
"""The state of a call that is simply made again once its client has opened a URL."""


class Bridge:
    """How calls get to the sessions of one upstream."""

    def __init__(self, upstream: Upstream, seal: Seal) -> None:
        self._upstream = upstream
        self._seal = seal

    async def carry(self, lane: Lane, session: Session, exchange: Exchange) -> dict[str, Any]:
        """Send a call and return its result as the client's revision writes it.

        Raises:
            NotTakenError: The upstream certainly did not take it.
            MCPError: Its answer is an error, or the client's revision cannot express it.
        """
        call = exchange.call
        assert call is not None
        if exchange.modern and not session.modern and exchange.level is not None:
            await lane.raise_level(exchange.level)

        async def send(params: Mapping[str, Any]) -> dict[str, Any]:
            return await self._send(lane, session, exchange, params)

        try:
            result = await send(self._opened(call, exchange.params) if session.modern else exchange.params)
            if session.modern and not exchange.modern and is_input_required(result):
                result = await complete(exchange, result, send, self._upstream.config.answer_timeout)
        except MCPError as error:
            if error.code == URL_ELICITATION_REQUIRED and exchange.modern:
                return self._open_urls(call, exchange.params, error)
            raise shape_error(
                call.method, error, source=session.agreed.version, version=call.protocol_version
            ) from None
        result = shape_result(call.method, result, source=session.agreed.version, version=call.protocol_version)
        return self._sealed(call, exchange.params, result)

    async def _send(
        self, lane: Lane, session: Session, exchange: Exchange, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        call = exchange.call
        assert call is not None
        tool = params.get("name") if call.method == "tools/call" and session.modern and self._upstream.url else None
        try:
            return await session.send(exchange, call.method, params, schema=lane.listings.input_schema(tool))
        except MCPError as error:
            if error.code != HEADER_MISMATCH or tool is None:
                raise
            await lane.refetch(Kind.TOOLS)  # the tool mirrors other arguments than it did
            return await session.send(exchange, call.method, params, schema=lane.listings.input_schema(tool))

    # -- the upstream's own state -------------------------------------------------------------------------------------

    def _sealed(self, call: Call, params: Mapping[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """Bind the upstream's state to the principal: the upstream itself only knows the host (H2)."""
        state = result.get("requestState")
        if call.principal is None or not isinstance(state, str) or not is_input_required(result):
            return result
        return {**result, "requestState": self._seal.seal(call, params, state)}

    def _opened(self, call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if call.principal is None or params.get("requestState") is None:
            return params
        return {**params, "requestState": self._seal.open(call, params)}

    # -- URLs that a legacy upstream wants opened first ---------------------------------------------------------------

    def _open_urls(self, call: Call, params: Mapping[str, Any], error: MCPError) -> dict[str, Any]:
        elicitations = error.data.get("elicitations") if isinstance(error.data, Mapping) else None
        wanted = {"mode": "url"}
        if not elicitations or missing_capability(call.connection.client_capabilities, "elicitation/create", wanted):
            raise error
        return {
            "resultType": "input_required",
            "inputRequests": {
                f"url-{number}": {
                    "method": "elicitation/create",
                    "params": {**wanted, "message": item.get("message", ""), "url": item.get("url", "")},
                }
                for number, item in enumerate(elicitations, 1)
            },
            "requestState": self._seal.seal(call, params, _AGAIN),
        }

    def starts_again(self, call: Call, params: Mapping[str, Any]) -> bool:
        """Whether the client comes back from opening a URL.

        Raises:
            MCPError: The state is not one of ours.
        """
        return self._seal.open(call, params) == _AGAIN
