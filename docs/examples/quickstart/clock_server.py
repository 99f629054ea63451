"""A stdio server in a process of its own: what `command = [...]` fronts."""

from datetime import UTC, datetime

from mcp.server import MCPServer

mcp = MCPServer("clock")


@mcp.tool()
async def now() -> str:
    """The time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    mcp.run()
