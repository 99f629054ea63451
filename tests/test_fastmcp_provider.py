"""A FastMCP object is a provider like the SDK's own servers."""

from __future__ import annotations

from typing import Any

import pytest
from fastmcp import FastMCP
from mcp import Client
from mcp_types import TextContent
from plughost import create_host

pytestmark = pytest.mark.anyio


def a_fastmcp() -> FastMCP[Any]:
    server: FastMCP[Any] = FastMCP("made", instructions="Be brief.")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.prompt
    async def greet(name: str) -> str:
        return f"Greet {name}"

    @server.resource("note://1")
    async def note() -> str:
        return "a note"

    return server


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_fastmcp_object_is_served(mode: str) -> None:
    """Its tools, its prompts, its resources and its instructions."""
    async with (
        create_host({}, providers={"fast": a_fastmcp()}) as host,
        Client(host.front, mode=mode) as client,
    ):
        assert [item.name for item in (await client.list_tools()).tools] == ["add"]
        content = (await client.call_tool("add", {"a": 1, "b": 2})).content[0]
        prompt = (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content
        resource = (await client.read_resource("note://1")).contents[0]
        instructions = client.instructions
    assert isinstance(content, TextContent)
    assert isinstance(prompt, TextContent)
    assert (content.text, prompt.text) == ("3", "Greet Ada")
    assert (resource.uri, instructions) == ("note://1", "Be brief.")
