"""Asks with a key, which is the first argument, until the limit is used up."""

import asyncio
import sys

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

URL = "http://127.0.0.1:8000/mcp"


async def main(key: str) -> None:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"})
    async with http, Client(streamable_http_client(URL, http_client=http)) as client:
        try:
            for city in ("Oslo", "Rome", "Lima", "Bonn"):
                for block in (await client.call_tool("forecast", {"city": city})).content:
                    assert isinstance(block, TextContent)
                    print(block.text)
        except MCPError as error:
            print(error.code, error.message)


asyncio.run(main(sys.argv[1]))
