"""A tool that crashes where `rich` is installed: its handler takes seconds for a traceback, on the loop."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from plughost import create_host
from plughost_logs import LogsConfig, LogsPlugin
from rich.logging import RichHandler

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_richs_handler_is_displaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK server puts it on the root logger; with the plugin the traceback goes to the writer's thread alone."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    server = MCPServer("crashing")

    @server.tool()
    def crash() -> str:
        raise ValueError("no such luck")

    assert [type(handler) for handler in root.handlers] == [RichHandler]
    rendered: list[logging.LogRecord] = []
    monkeypatch.setattr(root.handlers[0], "emit", rendered.append)
    plugin = LogsPlugin(LogsConfig(format="ecs", path=str(tmp_path / "log")), name="logs")
    async with create_host({}, providers={"crashing": server}, plugins=[plugin]) as host, Client(host.front) as client:
        result = await client.call_tool("crash", {})
    assert result.is_error
    assert [record for record in rendered if record.exc_info] == []
    assert "ValueError: no such luck" in (tmp_path / "log").read_text("utf-8")
