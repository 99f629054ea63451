"""Sends requests to a modern HTTP upstream: one POST each, in the task of whoever waits for the answer.

2026-07-28 has no sessions over HTTP, so an answer and all that is told before it come on the response of their own
request. Nothing has to be correlated, and closing the response is how a request is cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from itertools import count
from typing import Any

import httpx2
from mcp.shared._httpx_utils import redirect_location, stream_within_origin
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from opentelemetry.propagate import inject
from opentelemetry.trace import SpanKind, StatusCode, get_tracer
from pydantic_core import from_json, to_json

logger = logging.getLogger("plughost.upstream")

Heard = Callable[[str, Mapping[str, Any]], object]
"""Takes a notification: its method and its parameters."""

_ACCEPTED, _ERROR, _NOT_FOUND = 202, 400, 404
_HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
_tracer = get_tracer("plughost.upstream")


class Direct:
    """The way to one URL; no message of more than `most` bytes is taken from it."""

    def __init__(self, client: httpx2.AsyncClient, url: str, most: int) -> None:
        self._client = client
        self._url = url
        self._most = most
        self._ids = count(1)

    async def request(
        self, method: str, params: dict[str, Any], headers: Mapping[str, str], heard: Heard, *, request_id: str = ""
    ) -> dict[str, Any]:
        """Send a request and return its raw result, after `heard` got everything that was told on the way.

        Raises:
            MCPError: The answer is an error, is none, or cannot come any more.
        """
        message = {"jsonrpc": "2.0", "id": request_id or next(self._ids), "method": method, "params": params}
        name = params.get("name")
        span = f"MCP send {method} {name}" if isinstance(name, str) else f"MCP send {method}"
        traits = {"mcp.method.name": method, "jsonrpc.request.id": str(message["id"])}
        with _tracer.start_as_current_span(span, kind=SpanKind.CLIENT, attributes=traits) as current:
            inject(params["_meta"])
            try:
                return await self._post(to_json(message), {**_HEADERS, **headers}, heard)
            except MCPError as error:
                code = str(error.code)
                current.set_attributes({"error.type": code, "rpc.response.status_code": code})
                current.set_status(StatusCode.ERROR, error.message)
                raise

    async def _post(self, content: bytes, headers: Mapping[str, str], heard: Heard) -> dict[str, Any]:
        async with stream_within_origin(self._client, "POST", self._url, content=content, headers=headers) as response:
            if (location := redirect_location(response)) is not None:
                problem = f"The upstream redirects to {location}, which is not followed; set `url` to it if it is right"
                raise MCPError(INVALID_REQUEST, problem)
            if response.status_code == _ACCEPTED:
                raise MCPError(INVALID_REQUEST, "The upstream answered a request with 202 Accepted, without a result")
            media = response.headers.get("content-type", "").lower()
            try:
                if response.status_code >= _ERROR:
                    raise await self._error(response, media)
                if media.startswith("application/json"):
                    return _outcome(_message(await self._read(response)))
                if media.startswith("text/event-stream"):
                    return await self._listen(response, heard)
            except (httpx2.RequestError, httpx2.StreamError) as error:
                raise _closed(str(error)) from error
        raise MCPError(INVALID_REQUEST, f"Unexpected content type: {media}")

    async def _error(self, response: httpx2.Response, media: str) -> MCPError:
        """The JSON-RPC error that comes with an HTTP error, or one in its place."""
        if media.startswith("application/json") and (error := _failure(_message(await self._read(response)))):
            return error
        if response.status_code == _NOT_FOUND:
            return MCPError(METHOD_NOT_FOUND, "Not Found")
        return MCPError(INTERNAL_ERROR, f"The upstream answered HTTP {response.status_code}")

    async def _read(self, response: httpx2.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > self._most:
                raise _closed(f"it sent a message of more than {self._most} bytes")
        return b"".join(parts)

    async def _listen(self, response: httpx2.Response, heard: Heard) -> dict[str, Any]:
        async with aclosing(aiter(httpx2.EventSource(response, max_event_size=self._most))) as events:  # type: ignore[type-var]
            async for event in events:
                if event.event != "message" or not event.data:
                    continue
                message = _message(event.data)
                method = message.get("method")
                if not isinstance(method, str):
                    return _outcome(message)
                if "id" in message:
                    logger.debug("dropped the request %r: servers of this revision send none", method)
                    continue
                params = message.get("params")
                heard(method, params if isinstance(params, Mapping) else {})
        raise _closed("the stream ended without a result")


def _closed(problem: str) -> MCPError:
    """What the SDK's dispatcher raises, too, when an answer cannot come any more."""
    return MCPError(CONNECTION_CLOSED, f"Connection closed: {problem}")


def _message(data: bytes | str) -> dict[str, Any]:
    """The JSON-RPC message in there; an empty one if it is none."""
    try:
        message = from_json(data)
    except ValueError:
        return {}
    return message if isinstance(message, dict) and message.get("jsonrpc") == "2.0" else {}


def _outcome(message: Mapping[str, Any]) -> dict[str, Any]:
    result = message.get("result")
    if isinstance(result, dict):
        return result
    raise _failure(message) or MCPError(PARSE_ERROR, "The upstream's answer is no JSON-RPC result or error")


def _failure(message: Mapping[str, Any]) -> MCPError | None:
    match message.get("error"):
        case {"code": int(code), "message": str(text), **rest}:
            return MCPError(code, text, rest.get("data"))
        case _:
            return None
