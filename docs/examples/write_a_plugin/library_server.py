"""A server whose answers are long."""

from mcp.server import MCPServer

mcp = MCPServer("library")


@mcp.tool(structured_output=False)
async def read(title: str) -> str:
    """The whole text of a book."""
    return f"{title}: " + "and so on, " * 100
