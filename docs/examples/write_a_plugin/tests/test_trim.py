"""What every plugin owes, and what this one is for."""

from __future__ import annotations

from typing import Any

import pytest
from mcp_types import TextContent
from plughost_testing import ClientFactory, HostFactory, PluginContract, ScriptedProvider, VirtualClock, text
from plughost_trim import Trim, TrimConfig


class TestContract(PluginContract):
    plugin_class = Trim
    config = {"limit": 10}
    other_config = {"limit": 20}


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "expected"), [("too long", "too"), ("so", "so")])
async def test_texts_are_cut(host: HostFactory, client: ClientFactory, answer: str, expected: str) -> None:
    """A text ends after `limit` characters; a shorter one stays."""
    provider = ScriptedProvider(tools=["read"])
    provider.script("read", text(answer))
    caller = await client(await host(Trim(TrimConfig(limit=3)), providers=[provider]))
    [block] = (await caller.call_tool("read", {})).content
    assert isinstance(block, TextContent)
    assert block.text == expected
