"""A plugin with two slips in the names of its hooks."""

from plughost import MCPPlugin, hookimpl


class Slip(MCPPlugin):
    @hookimpl
    def plughost_midleware(self) -> list[str]:
        return []

    @hookimpl
    async def plughost_operations(self) -> list[object]:
        return []
