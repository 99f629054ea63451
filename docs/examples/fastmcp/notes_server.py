"""What is left of it."""

from typing import Any

from fastmcp import FastMCP

mcp: FastMCP[Any] = FastMCP("notes")


@mcp.tool
def drop(folder: str) -> str:
    """Throw a folder away."""
    return f"{folder} is gone."
