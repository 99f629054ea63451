"""A plugin in one file: hides e-mail addresses in what tools answer."""

import re
from collections.abc import Iterable
from typing import Any

from plughost import Call, CallNext, MCPPlugin, Middleware, Phase, PluginConfig, Result, hookimpl

ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


class RedactConfig(PluginConfig):
    replacement: str = "[e-mail]"
    """What stands in place of an address."""


class Redact(MCPPlugin[RedactConfig]):
    """Replaces e-mail addresses in the text of tool results."""

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.redact, Phase.TRANSFORM, methods={"tools/call"})]

    async def redact(self, call: Call, call_next: CallNext) -> Result:
        result = await call_next(call)
        return {**result, "content": [self._clean(block) for block in result.get("content", [])]}

    def _clean(self, block: dict[str, Any]) -> dict[str, Any]:
        if block.get("type") != "text":
            return block
        return {**block, "text": ADDRESS.sub(self.config.replacement, block["text"])}
