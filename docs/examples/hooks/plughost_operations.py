"""Counts calls; `plughost ctl counter show` tells, `plughost ctl counter reset to=5` changes."""

from collections.abc import Iterable

from plughost import Call, CallNext, MCPPlugin, Middleware, Operation, Phase, Result, hookimpl
from pydantic import BaseModel


class ResetTo(BaseModel):
    to: int = 0


class Counter(MCPPlugin):
    calls = 0

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.count, Phase.OBSERVE, methods={"tools/call"})]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="How many tool calls there were"),
            Operation("reset", self.reset, parameters=ResetTo, changes=True, summary="Count from here on"),
        ]

    async def count(self, call: Call, call_next: CallNext) -> Result:
        self.calls += 1
        return await call_next(call)

    async def show(self, _: BaseModel) -> int:
        return self.calls

    async def reset(self, parameters: ResetTo) -> int:
        self.calls = parameters.to
        return self.calls
