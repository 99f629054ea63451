"""Lets nothing be thrown away while nobody is there."""

from collections.abc import Iterable

from plughost import Call, CallNext, ErrorCode, MCPPlugin, Middleware, Phase, Refusal, Result, hookimpl


class OfficeHours(MCPPlugin):
    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.guard, Phase.GUARD, methods={"tools/call"})]

    async def guard(self, call: Call, call_next: CallNext) -> Result:
        if call.local_name == "drop":
            raise Refusal(ErrorCode.UNAUTHORIZED, "Come back in the morning.")
        return await call_next(call)
