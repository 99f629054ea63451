"""A plugin on one page: its config, one middleware, and one tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.mcpserver import MCPServer
from plughost import Call, CallNext, InProcessProvider, MCPPlugin, Middleware, Phase, PluginConfig, Result, hookimpl

if TYPE_CHECKING:
    from plughost import Host

__all__ = ["PluginTemplate", "PluginTemplateConfig"]


class PluginTemplateConfig(PluginConfig):
    """The keys of `[plugins.plugin-template]`."""

    greeting: str = "Hello"
    """What the tool says in front of a name, and the middleware beside every result."""


class PluginTemplate(MCPPlugin[PluginTemplateConfig]):
    """Greets whoever asks, and signs what the tools of all servers answer."""

    async def register(self, host: Host) -> None:
        """Acquire what the plugin needs. If this raises, the host stays as it was.

        `host` has what is shared: `host.clock`, `host.get(Type)`, `host.provide(Type, value)`, `host.publish(event)`.
        """
        del host  # greeting takes none of it
        server = MCPServer("plugin-template")
        server.tool()(self.greet)
        self._provider = InProcessProvider(self.name, server)

    @hookimpl
    def plughost_providers(self) -> list[InProcessProvider]:
        return [self._provider]

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.sign, Phase.TRANSFORM, methods={"tools/call"})]

    def greet(self, name: str) -> str:
        """Greet somebody by name."""
        return f"{self.config.greeting}, {name}!"

    async def sign(self, call: Call, call_next: CallNext) -> Result:
        """Above `call_next` stands what happens to the request, below it what happens to the result."""
        result = await call_next(call)
        meta = result.get("_meta") or {}
        return {**result, "_meta": {**meta, "plugin-template/greeting": self.config.greeting}}
