"""The HTTP side: the tenant in the path, and sessions that are another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "plughost.tenancy.path"
"""Where the ASGI scope has the tenant that the path names."""
SESSION = b"mcp-session-id"
NO_SESSION = b"0" * 32


PEER = "plughost.peer"
"""Where `plughost serve` puts the address at the other end of the connection."""


def peer_of(request: Request) -> str | None:
    """The address at the other end of the connection; `None` where a client may have made it up.

    Servers replace it by what `X-Forwarded-For` says, which is for a client to write where a proxy lets it pass.
    """
    if PEER in request.scope:
        found: str | None = request.scope[PEER]
        return found
    host = request.client.host if request.client is not None else None
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    return None if host is not None and host in forwarded else host


class PathTenant:
    """Takes the tenant out of the path, and leaves that of the endpoint. Around all that asks for the path."""

    http_order: ClassVar[int] = -1

    def __init__(self, app: ASGIApp, *, prefix: str, endpoint: str) -> None:
        self._app = app
        self._prefix = prefix + "/"
        self._endpoint = endpoint.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            path = str(scope["path"]).removeprefix(root)
            if path.startswith(self._prefix):
                tenant, slash, rest = path[len(self._prefix) :].partition("/")
                if (slash + rest).rstrip("/") == self._endpoint:
                    whole = root + self._endpoint
                    scope = {**scope, "path": whole, "raw_path": whole.encode(), PATH: tenant}
        await self._app(scope, receive, send)


class SessionTenant:
    """Lets nobody into another tenant's session: its id becomes one that there is not, and is answered like it (H1).

    Within all that authenticates, and around the SDK, since requests that open or end a stream pass no pipeline.
    """

    http_order: ClassVar[int] = 1

    def __init__(self, app: ASGIApp, *, foreign: Callable[[Request, str], bool]) -> None:
        self._app = app
        self._foreign = foreign

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            given = request.headers.getlist("mcp-session-id")
            if any(self._foreign(request, session) for session in given):
                headers = [(name, NO_SESSION if name == SESSION else value) for name, value in scope["headers"]]
                scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)
