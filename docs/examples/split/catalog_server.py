"""The part of the shop that knows what there is."""

from mcp.server import MCPServer

mcp = MCPServer("catalog")
PRICES = {"tea": 4.5, "cup": 9.0}


@mcp.tool()
async def find(word: str) -> list[str]:
    """Articles whose name holds a word."""
    return [name for name in PRICES if word in name]


@mcp.tool()
async def price(article: str) -> float:
    """The price of one article."""
    return PRICES[article]


if __name__ == "__main__":
    mcp.run()
