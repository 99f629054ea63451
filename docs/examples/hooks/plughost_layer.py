"""Counts how often each instance's layers are walked."""

from collections import Counter

from plughost import Call, CallNext, Handler, MCPPlugin, Phase, PluginConfig, Result, hookimpl


class Census(MCPPlugin):
    def __init__(self, config: PluginConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.walked: Counter[str] = Counter()

    @hookimpl
    def plughost_layer(self, instance: str, phase: Phase, handler: Handler) -> Handler:
        async def counted(call: Call, call_next: CallNext) -> Result:
            self.walked[instance] += 1
            return await handler(call, call_next)

        return counted
