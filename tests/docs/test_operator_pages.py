"""The pages for those who run a host work to the letter where the packages are installed."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from following import Reader
from mcp import Client, MCPError
from plughost import create_host
from serving import free_port

from docs.examples import ENVIRONMENT, EXAMPLES, text_of


class Operator(Reader):
    """Somebody with an empty folder, in the environment of these tests; what is on port 9000 is on a free one here."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {**os.environ, **ENVIRONMENT})
        self._other = str(free_port())

    def write(self, content: str, target: str) -> None:
        if target == "plughost.toml" and "[host]" not in content:
            content = f'[host]\nlisten = "127.0.0.1:8000"\n\n{content}'
        super().write(content.replace("9000", self._other), target)

    def run(self, command: str) -> tuple[int, str]:
        return (0, "") if command.startswith("pip ") else super().run(command)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    folder = tmp_path / "folder"
    folder.mkdir()
    return Operator(folder)


def test_protect_a_server(operator: Operator) -> None:
    """The server in front of which it stands is asked with the key, three times and no more, and is counted."""
    operator.follow("how-to/protect-a-server.md")


def test_why_refused(operator: Operator) -> None:
    """Each way to find out says what the page shows."""
    operator.follow("how-to/why-refused.md")


def test_approve_a_change(operator: Operator) -> None:
    """What changed is refused, shown and approved, as the page has it."""
    operator.follow("how-to/approve-a-change.md")


@pytest.fixture
def fastmcp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the example, whose modules are found."""
    monkeypatch.syspath_prepend(EXAMPLES / "fastmcp")
    monkeypatch.delitem(sys.modules, "notes_server", raising=False)
    yield EXAMPLES / "fastmcp"
    sys.modules.pop("notes_server", None)  # other examples have one, too


@pytest.mark.anyio
async def test_fastmcp_middleware_goes_on_working(fastmcp: Path) -> None:
    """What a FastMCP object has in it refuses the call where Plughost serves the object, too."""
    server = runpy.run_path(str(fastmcp / "before.py"))["mcp"]
    async with create_host({}, providers={"notes": server}) as host, Client(host.front) as client:
        result = await client.call_tool("drop", {"folder": "inbox"})
    assert (result.is_error, text_of(result)) == (True, "Come back in the morning.")


@pytest.mark.anyio
async def test_the_plugin_in_place_of_fastmcp_middleware(fastmcp: Path) -> None:
    """It refuses the same call, before it comes to the server."""
    async with create_host(fastmcp / "plughost.toml") as host, Client(host.front) as client:
        with pytest.raises(MCPError, match="Come back in the morning"):
            await client.call_tool("drop", {"folder": "inbox"})
