"""The entry for requests of 2026-07-28 over HTTP: JSON until something is streamed, and nothing between.

The SDK runs each such request in a task group with memory streams, since it might turn into a stream. Here it runs in
the ASGI task itself, and becomes a stream when the first notification is sent, or when it stays silent for long. Every
check of the SDK's entry is made; a request that fails one is handed to the SDK, which words the refusal.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.connection import Connection
from mcp.shared.dispatcher import as_request_id
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
    validate_mcp_param_headers,
)
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from pydantic_core import PydanticSerializationError, from_json, to_json
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from plughost._host import Host

logger = logging.getLogger("plughost")

WATCH_AFTER = 0.1
"""Seconds a call may run before somebody watches whether its client is still there (T7)."""
PING_EVERY = 15.0
"""Seconds of silence after which a comment keeps proxies from closing the stream."""
_JSON = (b"content-type", b"application/json")
_SSE = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
]


class ModernEntry:
    """ASGI handler of POSTs with a protocol version that is not an earlier revision's."""

    def __init__(self, host: Host, by_sdk: Callable[[Scope, Receive, Send], Awaitable[None]], max_body: int) -> None:
        self._host = host
        self._by_sdk = by_sdk
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]) -> None:
        body = await self._read(receive, headers.get(b"content-length"))
        if body is None:
            return await PlainTextResponse("Request body too large", 413)(scope, receive, send)
        exchange = self._accept(scope, receive, send, headers, body)
        if exchange is None:
            return await self._by_sdk(scope, _replay(body, receive), send)
        return await exchange.run(self._host)

    async def _read(self, receive: Receive, declared: bytes | None) -> bytes | None:
        """The whole body, or `None` as soon as it is too large (T10)."""
        if declared is not None and declared.isdigit() and int(declared) > self._max_body:
            return None
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return body if len(body) <= self._max_body else None
        parts = bytearray(body)
        while message.get("more_body", False):
            message = await receive()
            if message["type"] != "http.request":
                return b""  # the client left in the middle: whatever it sent is no request
            parts += message.get("body", b"")
            if len(parts) > self._max_body:
                return None
        return bytes(parts)

    def _accept(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes], body: bytes
    ) -> Exchange | None:
        """The exchange for a request that passes every check; `None` for anything else (T2, T3, T5)."""
        if not headers.get(b"content-type", b"").lower().startswith(b"application/json"):
            return None
        if not _accepts_both(headers.get(b"accept", b"")):
            return None
        try:
            decoded = from_json(body, allow_inf_nan=False)  # refuses nesting deeper than 200 (T10)
        except ValueError:
            return None
        if not isinstance(decoded, dict) or decoded.get("jsonrpc") != "2.0":
            return None
        request_id, method, params = as_request_id(decoded.get("id")), decoded.get("method"), decoded.get("params")
        if request_id is None or not isinstance(method, str) or not isinstance(params, dict):
            return None
        raw = scope["headers"]
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
        if len(texts) != len(raw) and find_duplicated_routing_header((n.decode(), "") for n, _ in raw) is not None:
            return None
        verdict = classify_inbound_request(decoded, headers=texts)
        if not isinstance(verdict, InboundModernRoute) or not self._params_mirrored(method, params, scope):
            return None
        return Exchange((scope, receive, send), texts, verdict, (request_id, method, params))

    def _params_mirrored(self, method: str, params: Mapping[str, Any], scope: Scope) -> bool:
        """Whether the `Mcp-Param-*` headers say what the arguments say."""
        if method != "tools/call":
            return True
        schemas, name = self._host.generation.catalog.header_schemas, params.get("name")
        schema = schemas.get(name) if schemas and isinstance(name, str) else None
        arguments = params.get("arguments") or {}
        if schema is None or not isinstance(arguments, Mapping):
            return True
        return validate_mcp_param_headers(schema, arguments, Request(scope).headers) is None


class Exchange:
    """One POST: the request's line back to its client, and the response."""

    can_send_request = False

    def __init__(
        self,
        asgi: tuple[Scope, Receive, Send],
        headers: Mapping[str, str],
        route: InboundModernRoute,
        message: tuple[str | int, str, Mapping[str, Any]],
    ) -> None:
        self.request_id: str | int | None
        self.request_id, self._method, self._params = message
        scope, self._receive, self._send = asgi
        self._headers = headers
        self._connection = Connection.from_envelope(
            route.protocol_version, route.client_info, route.client_capabilities
        )
        self._request = Request(scope, self._receive)
        self._streaming = False
        self._gone = False
        self._over = False
        self._helpers: list[asyncio.Task[None]] = []
        self._task: asyncio.Task[Any] | None = None

    @cached_property
    def transport(self) -> TransportContext:
        return TransportContext(kind="streamable-http", can_send_request=False, headers=self._headers)

    @cached_property
    def message_metadata(self) -> ServerMessageMetadata:
        return ServerMessageMetadata(request_context=self._request)

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        return anyio.Event()

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        del params, opts
        raise NoBackChannelError(method)  # this revision knows no request from server to client (T9)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        del opts
        frame: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            frame["params"] = params
        await self._stream(_event(_dump(frame)))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        token = progress_token_from_params(self._params)
        if token is None:
            return
        given = {"progressToken": token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {key: value for key, value in given.items() if value is not None})

    async def run(self, host: Host) -> None:
        """Serve the request and answer it; if the client goes away, cancel it and send nothing (T7)."""
        loop = asyncio.get_running_loop()
        task = self._task = asyncio.current_task(loop)
        timer = loop.call_later(WATCH_AFTER, self._watch)
        try:
            status = 200
            try:
                result = await host.exchange(self._connection, self, self._method, self._params, self._request)
                body = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_dump(self.request_id), _dump(result))
            except MCPError as error:
                status = ERROR_CODE_HTTP_STATUS.get(error.code, 200)
                details = error.error.model_dump(by_alias=True, mode="json", exclude_none=True)
                body = _dump({"jsonrpc": "2.0", "id": self.request_id, "error": details})
            await self._answer(status, body)
        except asyncio.CancelledError:
            if not self._gone or task is None or task.uncancel() > 0:
                raise
        finally:
            timer.cancel()
            for helper in self._helpers:
                helper.cancel()

    async def _answer(self, status: int, body: bytes) -> None:
        self._over = True
        if self._streaming:
            await self._send({"type": "http.response.body", "body": _event(body), "more_body": False})
            return
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _stream(self, frame: bytes) -> None:
        """Send a frame; the first one turns the response into a stream."""
        if self._over:
            return
        if not self._streaming:
            self._streaming = True
            self._watch()
            await self._send({"type": "http.response.start", "status": 200, "headers": _SSE})
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})

    def _watch(self) -> None:
        if not self._helpers:
            self._helpers = [asyncio.create_task(self._wait_for_disconnect()), asyncio.create_task(self._ping())]

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = self._over = True
        if self._task is not None:
            self._task.cancel()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY)
            await self._stream(b": ping\r\n\r\n")


@lru_cache(maxsize=256)
def _accepts_both(accept: bytes) -> bool:
    types = {part.split(b";")[0].strip().lower() for part in accept.split(b",")}
    if b"*/*" in types:
        return True
    return bool(types & {b"application/json", b"application/*"}) and bool(types & {b"text/event-stream", b"text/*"})


def _dump(value: Any) -> bytes:
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:  # a lone surrogate, which JSON can escape and UTF-8 cannot hold
        return json.dumps(value, separators=(",", ":"), default=str).encode()


def _event(data: bytes) -> bytes:
    return b"event: message\r\ndata: %b\r\n\r\n" % data


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
