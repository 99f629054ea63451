"""The part of the shop that takes orders."""

from mcp.server import MCPServer

mcp = MCPServer("orders")
orders: list[str] = []


@mcp.tool()
async def order(article: str) -> int:
    """Order one article; gives the number of the order."""
    orders.append(article)
    return len(orders)


if __name__ == "__main__":
    mcp.run()
