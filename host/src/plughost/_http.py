"""The ASGI application: the MCP endpoint in both protocol eras, and the routes and middleware of plugins."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp_types import JSONRPCMessage
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from plughost._config import LOOPBACK, HostSettings
from plughost._modern import ModernEntry
from plughost._pipeline import Gate
from plughost._sdk import end_standalone_streams

if TYPE_CHECKING:
    from plughost._host import Host
    from plughost._instance import Instance

logger = logging.getLogger("plughost")

RETRY_INTERVAL_MS = 500
"""What a legacy client is told to wait before it resumes a broken stream."""
_HANDSHAKE = frozenset(version.encode() for version in HANDSHAKE_PROTOCOL_VERSIONS)


class HTTPStack:
    """Routes and ASGI middleware of one set of plugins. `key` tells whether another stack is made of the same."""

    def __init__(self, key: tuple[int, ...], routes: Iterable[BaseRoute], middleware: Iterable[Middleware]) -> None:
        self.key = key
        self.gate = Gate()
        self._router = Router(routes=list(routes))
        self._middleware = list(middleware)

    @classmethod
    def of(cls, instances: Iterable[Instance]) -> HTTPStack:
        """The stack that these plugin instances make, in their order."""
        routes: list[BaseRoute] = []
        middleware: list[Middleware] = []
        key = []
        for item in instances:
            own_routes = item.contributed("plughost_http_routes")
            own_middleware = item.contributed("plughost_http_middleware")
            if own_routes or own_middleware:
                key.append(id(item.plugin))
            routes += own_routes
            middleware += own_middleware
        return cls(tuple(key), routes, middleware)

    def around(self, endpoint: ASGIApp, path: str) -> ASGIApp:
        """The application: middleware around the MCP endpoint and the routes."""
        router = self._router

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            own = scope["path"].removeprefix(scope.get("root_path", ""))
            await (endpoint if own == path else router)(scope, receive, send)

        app: ASGIApp = route
        for item in reversed(self._middleware):
            app = item.cls(app, *item.args, **item.kwargs)
        return app


def header_rules(settings: HostSettings) -> TransportSecurityMiddleware:
    """Which `Host` and `Origin` headers are let in: loopback's, and those of the config (T1)."""
    names = [f"{name}{port}" for name in sorted(LOOPBACK - {"::1"}) for port in ("", ":*")]
    return TransportSecurityMiddleware(
        TransportSecuritySettings(
            allowed_hosts=[*settings.allowed_hosts, *names],
            allowed_origins=[*settings.allowed_origins, *(f"http://{name}" for name in names)],
        )
    )


class MCPApp:
    """The host's ASGI application. Its lifespan runs the host, unless somebody does already."""

    def __init__(self, host: Host) -> None:
        settings = host.config.host
        self._host = host
        self._rules = header_rules(settings)
        self._modern = ModernEntry(host, self._by_sdk, settings.max_body)
        self._sessions: StreamableHTTPSessionManager | None = None
        self._app: tuple[HTTPStack | None, ASGIApp] = (None, self._endpoint)

    @asynccontextmanager
    async def sessions(self) -> AsyncIterator[None]:
        """Serve sessions of earlier revisions while entered."""
        settings = self._host.config.host
        manager = StreamableHTTPSessionManager(
            self._host.front,
            event_store=None if settings.stateless_legacy else RecentEvents(),
            retry_interval=RETRY_INTERVAL_MS,
            stateless=settings.stateless_legacy,
            max_request_body_size=settings.max_body,
        )
        async with manager.run():
            self._sessions = manager
            try:
                yield
            finally:
                self._sessions = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        if scope["type"] != "http":
            return None
        stack = self._host.http
        if self._app[0] is not stack:
            self._app = (stack, stack.around(self._endpoint, self._host.config.host.path))
        stack.gate.inside += 1
        try:
            await self._app[1](scope, receive, send)
        finally:
            stack.gate.leave()
        return None

    async def _endpoint(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = await self._rules.validate_request(Request(scope))
        if refused is not None:
            return await refused(scope, receive, send)
        if self._sessions is None:
            text = "The host does not run; enter it in the lifespan of the application that mounts it"
            return await PlainTextResponse(text, 503)(scope, receive, send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        version = headers.get(b"mcp-protocol-version")
        if scope["method"] == "POST" and version is not None and version not in _HANDSHAKE:
            return await self._modern(scope, receive, send, headers)
        return await self._by_sdk(scope, receive, send)

    async def _by_sdk(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._sessions is not None
        await self._sessions.asgi_app(scope, receive, send)

    def end_streams(self) -> None:
        """End the standing GET streams of legacy sessions; their clients reconnect."""
        if self._sessions is not None:
            end_standalone_streams(self._sessions)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._host.running:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        else:
            try:
                await self._host.__aenter__()
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
            try:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            finally:
                await self._host.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})


class RecentEvents(EventStore):
    """What legacy clients can replay after a broken stream: the newest events, bounded, in memory."""

    def __init__(self, limit: int = 10_000) -> None:
        self._events: OrderedDict[str, tuple[str, JSONRPCMessage | None]] = OrderedDict()
        self._ids = count(1)
        self._limit = limit

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        event_id = str(next(self._ids))
        self._events[event_id] = (stream_id, message)
        if len(self._events) > self._limit:
            self._events.popitem(last=False)
        return event_id

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        if last_event_id not in self._events:
            return None
        stream, _ = self._events[last_event_id]
        later = [(key, message) for key, (owner, message) in self._events.items() if owner == stream]
        for key, message in later:
            if int(key) > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, key))
        return stream
