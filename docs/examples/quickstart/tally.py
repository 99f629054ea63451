"""A plugin in one file: counts the calls of each tool, and tells with `plughost ctl tally show`."""

from collections import Counter
from collections.abc import Iterable

from plughost import Call, CallNext, MCPPlugin, Middleware, Operation, Phase, Result, hookimpl


class Tally(MCPPlugin):
    """Counts calls by provider and tool."""

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.count, Phase.GUARD, methods={"tools/call"})]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [Operation("show", self.show, summary="How often each tool was called")]

    async def count(self, call: Call, call_next: CallNext) -> Result:
        self.calls[f"{call.provider}/{call.local_name}"] += 1
        return await call_next(call)

    async def show(self, _: object) -> dict[str, int]:
        return dict(self.calls)

    async def register(self, _: object) -> None:
        self.calls: Counter[str] = Counter()
