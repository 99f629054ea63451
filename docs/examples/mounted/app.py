"""An application that exists, with a host mounted in it: `uvicorn app:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server import MCPServer
from plughost import create_host
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

stock = MCPServer("stock")


@stock.tool()
async def in_stock(article: str) -> bool:
    """Whether an article can be sent today."""
    return article == "tea"


host = create_host({"host": {"name": "shop"}, "plugins": {"errors": {}, "shutdown": {}}}, providers={"stock": stock})


async def front_page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("The application itself.")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with host:  # Starlette does not run the lifespan of what is mounted
        yield


app = Starlette(
    routes=[Route("/", front_page), Mount("/tools", host.app)],  # MCP is at /tools/mcp
    lifespan=lifespan,
)
