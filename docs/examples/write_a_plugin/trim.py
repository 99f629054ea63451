"""Cuts off long texts in what tools answer."""

from __future__ import annotations

from typing import Any

from plughost import Call, CallNext, MCPPlugin, Middleware, Phase, PluginConfig, Result, hookimpl
from pydantic import Field

__all__ = ["Trim", "TrimConfig"]


class TrimConfig(PluginConfig):
    """The keys of `[plugins.trim]`."""

    limit: int = Field(default=20, gt=0)
    """Characters that a text may have."""


class Trim(MCPPlugin[TrimConfig]):
    """Cuts off the texts of tool results after `limit` characters."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.trim, Phase.TRANSFORM, methods={"tools/call"})]

    async def trim(self, call: Call, call_next: CallNext) -> Result:
        """Above `call_next` stands what happens to the request, below it what happens to the result."""
        result = await call_next(call)
        return {**result, "content": [self._cut(block) for block in result.get("content", [])]}

    def _cut(self, block: dict[str, Any]) -> dict[str, Any]:
        if block.get("type") != "text":
            return block
        return {**block, "text": block["text"][: self.config.limit]}
