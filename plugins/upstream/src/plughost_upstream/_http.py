"""The HTTP client of an upstream, beneath both ways of speaking to it: one failed request fails alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client

from plughost_upstream._config import Upstream
from plughost_upstream._direct import Direct
from plughost_upstream._exchange import CURRENT

GOODBYE = 2.0
"""Seconds that ending a session may take."""
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


@dataclass(slots=True)
class Trace:
    """What happened to one request on the HTTP level."""

    status: int | None = None
    fault: str = ""
    unsent: bool = False
    """The upstream certainly did not take the request: it can be sent again."""
    forgotten: bool = False
    """The upstream does not know the session any more."""


TRACE: ContextVar[Trace | None] = ContextVar("plughost_upstream_trace", default=None)
"""The trace of the request being sent: the SDK's transport runs each request in its sender's context."""


class _Body(httpx2.AsyncByteStream):
    """A response body whose failure ends this response only: the SDK's transport would give up altogether."""

    def __init__(self, inner: httpx2.AsyncByteStream, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                yield chunk
        except httpx2.TransportError as error:
            self._trace.fault = describe(error)
            raise httpx2.StreamError(self._trace.fault) from error

    async def aclose(self) -> None:
        await self._inner.aclose()


def describe(error: Exception) -> str:
    """A network error in words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class Client(httpx2.AsyncClient):
    """An HTTP client that answers 502 in the upstream's stead where it cannot be reached, and notes why."""

    def __init__(self, *, lost: Callable[[str, bool], None], **options: Any) -> None:
        super().__init__(**options)
        self._lost = lost
        self._forgotten = False

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if request.method == "DELETE":
            return await self._goodbye(request, options)
        trace = TRACE.get()
        of_session = trace is None  # its own stream of changes, or a notification: nobody waits for the answer
        trace = trace or Trace()
        exchange = CURRENT.get()
        if exchange is not None and "last-event-id" in request.headers:
            await exchange.release()
        try:
            response = await super().send(request, **options)
        except httpx2.TransportError as error:
            trace.fault = describe(error)
            trace.unsent = isinstance(error, _NEVER_SENT)
            response = httpx2.Response(502, request=request, text="")
        trace.status = response.status_code
        if response.status_code == 404 and MCP_SESSION_ID in request.headers:
            trace.forgotten = self._forgotten = True
        if of_session and (trace.forgotten or trace.fault):
            self._lost(trace.fault or "the upstream forgot the session", trace.forgotten or trace.unsent)
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Body(response.stream, trace)
        return response

    async def _goodbye(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        if not self._forgotten:
            with anyio.move_on_after(GOODBYE):
                try:
                    return await super().send(request, **options)
                except httpx2.TransportError:
                    pass  # it is gone, and with it the session
        return httpx2.Response(204, request=request)


class HTTPWire:
    """An open connection to an HTTP upstream: `streams` are what the SDK's dispatcher takes.

    A legacy upstream is spoken to through them, a modern one through `direct`.
    """

    def __init__(self, streams: tuple[Any, Any], direct: Direct) -> None:
        self.streams = streams
        self.direct = direct

    def epitaph(self) -> str:
        """Why it ended: an HTTP connection does not end by itself."""
        return ""


@asynccontextmanager
async def open_http(upstream: Upstream, lost: Callable[[str, bool], None]) -> AsyncGenerator[HTTPWire, None]:
    """Connect with the configured headers only (A4).

    `lost(reason, certain)` is told when what nobody waits for fails: the stream of changes, or a notification. It is
    certain that the session is gone if the upstream forgot it or takes no connection.
    """
    timeout = httpx2.Timeout(min(30.0, upstream.connect_timeout), read=None)  # a request's total limit is its session's
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
    async with (
        Client(lost=lost, headers=upstream.headers(), timeout=timeout, limits=limits) as client,
        streamable_http_client(
            upstream.url, http_client=client, max_sse_event_size=upstream.table.max_message
        ) as streams,
    ):
        yield HTTPWire(streams, Direct(client, upstream.url, upstream.table.max_message))
