"""The ASGI application: the MCP endpoint in both protocol eras, and the routes and middleware of plugins."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
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
from plughost._sdk import SessionManager

if TYPE_CHECKING:
    from plughost._host import Host
    from plughost._instance import Instance

logger = logging.getLogger("plughost")

KEPT_EVENTS = 256
"""Messages that a legacy session can replay."""
RETRY_INTERVAL_MS = 500
"""What a legacy client is told to wait before it resumes a broken stream."""
_HANDSHAKE = frozenset(version.encode() for version in HANDSHAKE_PROTOCOL_VERSIONS)


class HTTPStack:
    """Routes and ASGI middleware of one set of plugins around the MCP endpoint.

    `key` tells whether another stack is made by the same plugins; `gate` counts the requests inside.
    """

    def __init__(self, instances: Iterable[Instance], endpoint: ASGIApp, path: str) -> None:
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
        self.key = tuple(key)
        self.gate = Gate()
        router = Router(routes=routes)
        path = path.rstrip("/")

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            await (endpoint if _own_path(scope) == path else router)(scope, receive, send)

        self.app: ASGIApp = route
        middleware.sort(key=lambda layer: getattr(layer.cls, "http_order", 0))
        for layer in reversed(middleware):
            self.app = layer.cls(self.app, *layer.args, **layer.kwargs)


def header_rules(settings: HostSettings) -> TransportSecurityMiddleware:
    """Which `Host` and `Origin` headers are let in: loopback's, and those of the config (T1)."""
    names = [f"{name}{port}" for name in sorted(LOOPBACK - {"::1"}) for port in ("", ":*")]
    return TransportSecurityMiddleware(
        TransportSecuritySettings(
            allowed_hosts=[*settings.allowed_hosts, *names],
            allowed_origins=[*settings.allowed_origins, *(f"http://{name}" for name in names)],
        )
    )


def _own_path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).rstrip("/")


def names_address(scope: Scope) -> bool:
    """Whether `Host` is an IP address and no page of a browser asks: as the probes of orchestrators and scrapers do.

    DNS rebinding, which the rules for `Host` are against, needs a name.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"origin" in headers:
        return False
    host = headers.get(b"host", b"").decode("latin-1")
    bracketed = re.fullmatch(r"\[(.+)\](?::\d+)?", host)
    try:
        ip_address(bracketed[1] if bracketed else host.partition(":")[0])
    except ValueError:
        return False
    return True


class MCPApp:
    """The host's ASGI application. Its lifespan runs the host, unless somebody does already."""

    def __init__(self, host: Host) -> None:
        settings = host.settings
        self._host = host
        self._rules = header_rules(settings)
        self._path = settings.path.rstrip("/")
        self._modern = ModernEntry(host, self._by_sdk, settings.max_body)
        self._sessions: SessionManager | None = None

    @asynccontextmanager
    async def sessions(self) -> AsyncIterator[None]:
        """Serve sessions of earlier revisions while entered."""
        settings = self._host.settings
        manager = SessionManager(
            self._host.front,
            RecentEvents,
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
        probe = scope["method"] in ("GET", "HEAD") and _own_path(scope) != self._path and names_address(scope)
        refused = None if probe else await self._rules.validate_request(Request(scope))
        if refused is not None:  # before any plugin's route or middleware: those are no less reachable by a browser
            return await refused(scope, receive, send)
        stack = self._host.http
        stack.gate.inside += 1
        try:
            await stack.app(scope, receive, send)
        finally:
            stack.gate.leave()
        return None

    async def endpoint(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to the MCP endpoint, in the era that its headers name."""
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
            self._sessions.end_standalone_streams()

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
    """What the client of one legacy session can replay after a broken stream: the newest messages, in memory."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, str, JSONRPCMessage | None]] = deque(maxlen=KEPT_EVENTS)
        self._ids = count(1)

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        event_id = next(self._ids)
        self._events.append((event_id, stream_id, message))
        return str(event_id)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        kept = list(self._events)
        stream = next((stream for event_id, stream, _ in kept if str(event_id) == last_event_id), None)
        for event_id, owner, message in kept:
            if owner == stream and event_id > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, str(event_id)))
        return stream
