from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")


@mcp.tool()
def add(text: str) -> str:
    """Keep a note."""
    return f"Kept {text!r}."


@mcp.tool()
def drop() -> str:
    """Throw all notes away."""
    return "All notes are gone."
