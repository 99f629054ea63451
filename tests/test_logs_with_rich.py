"""A tool that crashes where `rich` is installed: its handlers take up to seconds for a traceback, on the loop."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from plughost import create_host
from plughost_logs import LogsConfig, LogsPlugin
from rich.logging import RichHandler

pytestmark = pytest.mark.anyio


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


FASTMCP = """
from fastmcp import FastMCP
from fastmcp.utilities.logging import configure_logging

configure_logging()  # as the first import of fastmcp does
mcp = FastMCP("crashing")

@mcp.tool
def crash() -> str:
    raise ValueError("password=hunter2")
"""


async def test_fastmcps_handlers_are_displaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They sit on a logger of its own, which tells the root logger nothing, and come when the server is imported."""
    theirs = logging.getLogger("fastmcp")
    monkeypatch.setattr(theirs, "handlers", [])
    monkeypatch.setattr(theirs, "propagate", True)
    rendered: list[logging.LogRecord] = []
    monkeypatch.setattr(RichHandler, "emit", lambda _, record: rendered.append(record))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "crashing_server.py").write_text(FASTMCP)
    log = tmp_path / "log"
    config = {"providers": {"crashing": {"python": "crashing_server:mcp"}}, "plugins": {"logs": {"path": str(log)}}}
    async with create_host(config) as host, Client(host.front) as client:
        assert (await client.call_tool("crash", {})).is_error
    assert rendered == []
    assert ([type(handler) for handler in theirs.handlers], theirs.propagate) == ([RichHandler, RichHandler], False)
    [line] = [line for line in map(json.loads, log.read_text("utf-8").splitlines()) if "error" in line]
    assert (line["log"]["logger"], line["mcp"]["method"]["name"]) == ("fastmcp.server.server", "tools/call")
    assert line["error"]["message"] == "password=[redacted]"
