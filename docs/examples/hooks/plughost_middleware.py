"""Adds how long each tool call took to the `_meta` of its result."""

from collections.abc import Iterable
from time import perf_counter

from plughost import Call, CallNext, MCPPlugin, Middleware, Phase, Result, hookimpl


class Stopwatch(MCPPlugin):
    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.measure, Phase.OBSERVE, methods={"tools/call"}, after=["errors"])]

    async def measure(self, call: Call, call_next: CallNext) -> Result:
        begin = perf_counter()
        result = await call_next(call)
        took = round((perf_counter() - begin) * 1e3, 3)
        return {**result, "_meta": {**result.get("_meta", {}), "com.example/ms": took}}
