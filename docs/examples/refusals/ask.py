"""Calls one tool that is not for everybody, and another too often."""

import asyncio

from mcp import Client, MCPError


async def main() -> None:
    async with Client("http://127.0.0.1:8000/mcp") as client:
        for tool, arguments in (("drop", {}), *[("add", {"text": "milk"})] * 3):
            try:
                await client.call_tool(tool, arguments)
                print(tool, "ok")
            except MCPError as error:
                print(tool, error.code, error.message, error.data["type"], error.data["requestId"])


asyncio.run(main())
