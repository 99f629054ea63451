"""A server whose answers hold what not everyone should see."""

from mcp.server import MCPServer

mcp = MCPServer("people")


@mcp.tool(structured_output=False)
async def contact(name: str) -> str:
    """How to reach a person."""
    return f"Write to {name}@example.com."
