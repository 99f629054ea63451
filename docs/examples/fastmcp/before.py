"""A server that has all of it in its own code."""

from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.server.middleware.rate_limiting import SlidingWindowRateLimitingMiddleware
from fastmcp.server.middleware.timing import TimingMiddleware


class OfficeHours(Middleware):
    """Lets nothing be thrown away while nobody is there."""

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        if context.message.name == "drop":
            raise ToolError("Come back in the morning.")
        return await call_next(context)


mcp: FastMCP[Any] = FastMCP("notes")
mcp.add_middleware(TimingMiddleware())
mcp.add_middleware(SlidingWindowRateLimitingMiddleware(max_requests=100, window_minutes=1))
mcp.add_middleware(OfficeHours())


@mcp.tool
def drop(folder: str) -> str:
    """Throw a folder away."""
    return f"{folder} is gone."


if __name__ == "__main__":
    mcp.run("http", port=8000)
