"""The part of the shop that sends things."""

from mcp.server import MCPServer

mcp = MCPServer("shipping")


@mcp.tool()
async def track(number: int) -> str:
    """Where the parcel of an order is."""
    return f"Order {number} is on its way."


@mcp.resource("shipping://countries")
async def countries() -> str:
    """Where the shop sends to."""
    return "AT CH DE"


if __name__ == "__main__":
    mcp.run()
