"""Where a client's token goes: to the gate, and no further."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from otlp_receiver import Collector, http_collector
from plughost_testing.services import HostProcess, Program, Stack

pytestmark = pytest.mark.anyio

TOKEN = "plh_the-token-of-a-client-0123456789"
UPSTREAM_TOKEN = "the-token-of-the-host-itself-0123456789"
SERVER = """
import sys
import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("upstream")


@server.tool()
def add(a: int, b: int) -> int:
    if a < 0:
        raise ValueError("negative")
    return a + b


inner = server.streamable_http_app()
record = open(sys.argv[2], "ab", buffering=0)


async def recording(scope, receive, send):
    record.write(repr({**scope, "app": None, "state": None}).encode() + b"\\n")

    async def heard():
        message = await receive()
        record.write(message.get("body", b"") + b"\\n")
        return message

    await inner(scope, heard, send)


uvicorn.run(recording, port=int(sys.argv[1]), log_level="error")
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with http_collector() as running:
        yield running


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_token_ends_at_the_gate(mode: Any, stack: Stack, collector: Collector, tmp_path: Path) -> None:
    """An upstream gets the host's own credentials, never the client's; logs and traces hold neither (A4, G6)."""
    program, record = tmp_path / "upstream.py", tmp_path / "record"
    program.write_text(SERVER, "utf-8")
    upstream = stack.start(Program(sys.executable, str(program), "{port}", str(record)))
    config = {
        "host": {"log_level": "DEBUG"},
        "providers": {"calc": {"url": upstream.url, "headers": {"authorization": f"Bearer {UPSTREAM_TOKEN}"}}},
        "plugins": {
            "auth": {"keys": {"ci": {"sha256": sha256(TOKEN.encode()).hexdigest()}}},
            "tracing": {"endpoint": collector.url, "interval": "100ms", "sample": 1.0},
            "logs": {},
        },
    }
    host = stack.start(HostProcess(config))
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http,
        Client(streamable_http_client(host.url, http_client=http), mode=mode, cache=None) as client,
    ):
        assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}
        assert (await client.call_tool("add", {"a": -1, "b": 2})).is_error
        assert (await client.call_tool("missing", {})).is_error
    async with httpx2.AsyncClient() as http:
        await http.post(host.url, headers={"authorization": f"Bearer {TOKEN}x"}, json={})
        await http.post(f"{host.url}?access_token={TOKEN}", json={})
    collector.wait_for(3)
    host.stop()
    received = record.read_text("utf-8")
    assert UPSTREAM_TOKEN in received
    assert TOKEN not in received
    assert TOKEN not in (host.folder / "log").read_text("utf-8")
    assert "tools/call" in (host.folder / "log").read_text("utf-8")
    assert TOKEN not in repr(collector.spans)
    assert UPSTREAM_TOKEN not in repr(collector.spans)
