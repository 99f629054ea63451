from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")


@mcp.tool()
def add(text: str, folder: str = "inbox") -> str:
    """Add a note to a folder."""
    return f"Added to {folder}: {text}"


if __name__ == "__main__":
    mcp.run()
