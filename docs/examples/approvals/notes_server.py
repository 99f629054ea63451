from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")


@mcp.tool()
def add(text: str) -> str:
    """Add a note."""
    return f"Added: {text}"


if __name__ == "__main__":
    mcp.run()
