"""A plugin with a metric: how much text tools answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from plughost import Call, CallNext, Host, InstanceMeter, MCPPlugin, Middleware, Phase, Readings, Result, hookimpl

meter: InstanceMeter[Lengths] = InstanceMeter("lengths")


class Lengths(MCPPlugin):
    async def register(self, host: Host) -> None:
        self.found: Counter[str] = Counter()
        meter.watch(self)

    async def unregister(self) -> None:
        meter.unwatch(self)

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.measure, Phase.GUARD, methods={"tools/call"})]

    async def measure(self, call: Call, call_next: CallNext) -> Result:
        result = await call_next(call)
        self.found[str(call.target)] += sum(len(block.get("text", "")) for block in result.get("content", []))
        return result


@meter.counter("lengths.characters", "{character}", "Characters that tools answered, by tool.")
def characters(plugin: Lengths) -> Readings:
    for tool, count in plugin.found.items():
        yield count, {"gen_ai.tool.name": tool}
