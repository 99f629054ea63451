"""Asks the tool twice, the second time without saying for whom."""

import asyncio

from mcp import Client, MCPError
from mcp_types import TextContent


async def main() -> None:
    async with Client("http://127.0.0.1:8000/mcp") as client:
        for arguments in ({"name": "ada"}, {}):
            try:
                for block in (await client.call_tool("contact", arguments)).content:
                    assert isinstance(block, TextContent)
                    print(block.text)
            except MCPError as error:
                print(error.error)


asyncio.run(main())
