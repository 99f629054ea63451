"""Injected faults, as clients see them through the structured errors."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import TextContent
from plughost_chaos import ChaosConfig, ChaosPlugin
from plughost_errors import ErrorsPlugin
from plughost_testing import ClientFactory, HostFactory, ScriptedProvider, VirtualClock
from plughost_testing.services import HostProcess, ServiceError, Stack

pytestmark = pytest.mark.anyio

SERVER = """
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")
mcp.tool(name="add")(lambda: "added")
"""


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        ({"kind": "error"}, "internal_server_error", False),
        ({"kind": "error", "code": -32001}, "timeout", True),
        ({"kind": "disconnect"}, "upstream", True),
    ],
)
async def test_faults_are_structured(
    host: HostFactory, client: ClientFactory, fault: dict[str, Any], kind: str, *, retryable: bool
) -> None:
    """A fault is answered as the provider's own failure would be, in both protocol eras."""
    config = ChaosConfig.model_validate({"i_know": True, "faults": [fault]})
    notes = ScriptedProvider("notes", tools=["add"])
    running = await host(ErrorsPlugin(name="errors"), ChaosPlugin(config, name="chaos"), providers=[notes])
    caller = await client(running)
    with pytest.raises(MCPError) as caught:
        await caller.call_tool("add", {})
    assert (caught.value.data["type"], caught.value.data["retryable"]) == (kind, retryable)


async def test_served(stack: Stack) -> None:
    """A served host with both plugins answers the first call with a structured fault, and the next one as ever."""
    tables = {"errors": {}, "chaos": {"i_know": True, "faults": [{"kind": "error", "on": [1]}]}}
    config = {"providers": {"notes": {"python": "notes_server:mcp"}}, "plugins": tables}
    served = stack.start(HostProcess(config, files={"notes_server.py": SERVER}))
    async with Client(served.url) as caller:
        with pytest.raises(MCPError, match="Injected error") as caught:
            await caller.call_tool("add", {})
        assert caught.value.data["type"] == "internal_server_error"
        assert (await caller.call_tool("add", {})).content == [TextContent(text="added")]


def test_serve_refuses(stack: Stack) -> None:
    """A host that was not told `i_know = true` ends before it serves, and says why."""
    with pytest.raises(ServiceError, match=r"plugins\.chaos\.i_know: this plugin makes calls fail on purpose"):
        stack.start(HostProcess({"plugins": {"chaos": {}}}))
