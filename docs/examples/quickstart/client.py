"""Talks to the quickstart's server with the SDK's client."""

import anyio
from mcp import Client
from mcp_types import TextContent


async def main() -> None:
    async with Client("http://127.0.0.1:8000/mcp") as client:
        print([tool.name for tool in (await client.list_tools()).tools])
        result = await client.call_tool("add_note", {"title": "milk", "text": "Two bottles."})
        for block in result.content:
            if isinstance(block, TextContent):
                print(block.text)


if __name__ == "__main__":
    anyio.run(main)
