"""A plugin with a fault: it trusts clients to say who they want to reach."""

import logging

from plughost import Call, CallNext, MCPPlugin, Middleware, Phase, Result, hookimpl

logger = logging.getLogger("careful")


class Careful(MCPPlugin):
    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.look, Phase.GUARD, methods={"tools/call"})]

    async def look(self, call: Call, call_next: CallNext) -> Result:
        name = call.params["arguments"]["name"]
        logger.info("somebody asks for %s", name)
        return await call_next(call)
