"""A server as it may run anywhere: it knows nothing of Plughost."""

from mcp.server.mcpserver import MCPServer

mcp = MCPServer("weather")


@mcp.tool()
def forecast(city: str) -> str:
    """Tomorrow's weather."""
    return f"{city}: sunny"


if __name__ == "__main__":
    mcp.run("streamable-http", port=9000)
