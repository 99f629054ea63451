"""The server that all contestants wrap or compete with. Imports what a bare server imports, and nothing more."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer


async def echo(text: str) -> str:
    """Say it again."""
    return text


def echo_server(name: str = "echo", tools: int = 1) -> MCPServer:
    """A `MCPServer` as its tutorial writes it; the last of its tools is `echo`."""
    server = MCPServer(name)
    for number in range(1, tools):
        server.add_tool(echo, name=f"echo_{number}")
    server.add_tool(echo)
    return server
