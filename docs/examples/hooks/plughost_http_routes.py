"""Serves a page of its own beside the MCP endpoint."""

from collections.abc import Iterable

from plughost import MCPPlugin, PluginConfig, hookimpl
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route


class ContactConfig(PluginConfig):
    mail: str = "ops@example.com"
    """Whom to write to."""


class Contact(MCPPlugin[ContactConfig]):
    @hookimpl
    def plughost_http_routes(self) -> Iterable[BaseRoute]:
        return [Route("/contact", self.show)]

    async def show(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse(self.config.mail)
