"""Reads a book and prints what the tool answered."""

import asyncio

from mcp import Client
from mcp_types import TextContent


async def main() -> None:
    async with Client("http://127.0.0.1:8000/mcp") as client:
        for block in (await client.call_tool("read", {"title": "Emma"})).content:
            assert isinstance(block, TextContent)
            print(len(block.text), "characters:", block.text[:60])


asyncio.run(main())
