"""Adds a header to every HTTP answer."""

from collections.abc import Iterable

from plughost import MCPPlugin, hookimpl
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware as HTTPMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ServedBy:
    """ASGI middleware; it sees streams as they pass and buffers nothing."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app = app
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Served-By"] = self.name
            await send(message)

        await self.app(scope, receive, stamped)


class Stamp(MCPPlugin):
    @hookimpl
    def plughost_http_middleware(self) -> Iterable[HTTPMiddleware]:
        return [HTTPMiddleware(ServedBy, name=self.name)]
