"""A plugin that waits for a tool for a while, and then gives up."""

import anyio
from plughost import Call, CallNext, ErrorCode, GuardConfig, MCPPlugin, Middleware, Phase, Refusal, Result, hookimpl


class PatienceConfig(GuardConfig):
    seconds: float = 60.0
    """How long a tool may take."""


class Patience(MCPPlugin[PatienceConfig]):
    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.wait, Phase.PROTECT, methods={"tools/call"})]

    async def wait(self, call: Call, call_next: CallNext) -> Result:
        with anyio.move_on_after(self.config.seconds):
            return await call_next(call)
        raise Refusal(ErrorCode.TIMEOUT, f"{call.target} took more than {self.config.seconds} s")
