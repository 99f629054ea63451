"""What a host that is leaving says over HTTP: connect elsewhere."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plughost_shutdown._drain import Drain, Phase


class Closing:
    """ASGI middleware that closes each connection with its response, so that a pool of connections moves on."""

    def __init__(self, app: ASGIApp, drain: Drain, path: str) -> None:
        self._app = app
        self._drain = drain
        self._path = path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._drain.phase is Phase.SERVING:
            return await self._app(scope, receive, send)

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        if self._drain.refusing and scope["method"] == "GET" and self._is_endpoint(scope):
            refusal = PlainTextResponse("The host is shutting down; connect again", 503, {"retry-after": "1"})
            return await refusal(scope, receive, closing)  # a standing stream of a session would hold up the exit
        return await self._app(scope, receive, closing)

    def _is_endpoint(self, scope: Scope) -> bool:
        return str(scope["path"]).removeprefix(scope.get("root_path", "")).rstrip("/") == self._path
