"""Brings a tool of its own. The provider is made once: the same object in every generation keeps running."""

from collections.abc import Iterable
from secrets import randbelow

from mcp.server import MCPServer
from plughost import InProcessProvider, MCPPlugin, Provider, hookimpl

dice = MCPServer("dice")


@dice.tool()
async def roll(sides: int = 6) -> int:
    """Roll a die."""
    return 1 + randbelow(sides)


class Dice(MCPPlugin):
    async def register(self, _: object) -> None:
        self.provider = InProcessProvider("dice", dice)

    @hookimpl
    def plughost_providers(self) -> Iterable[Provider]:
        return [self.provider]
