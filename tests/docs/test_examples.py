"""The examples do what the pages around them say."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx2
import psutil
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import TextResourceContents
from serving import free_port, serving

from docs.examples import EXAMPLES, SCRIPTS, Serve, plughost, text_of

pytestmark = pytest.mark.anyio
LIMIT = 20


async def test_the_quickstart_serves_two_servers_as_one(serve: Serve) -> None:
    """The in-process server's tools, resources and prompts stand beside the stdio server's prefixed tool."""
    async with Client(serve("quickstart").url) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["add_note", "search_notes", "clock_now"]
        await client.call_tool("add_note", {"title": "milk", "text": "Two bottles."})
        [content] = (await client.read_resource("note://milk")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == "Two bottles."
        prompt = await client.get_prompt("summarize", {"title": "milk"})
        assert "Two bottles." in prompt.messages[0].model_dump_json()
        assert text_of(await client.call_tool("clock_now", {})).startswith("20")


async def test_the_quickstarts_plugin_tells_what_it_counted(serve: Serve) -> None:
    """An operation of a one-file plugin answers on the control socket."""
    served = serve("quickstart")
    async with Client(served.url) as client:
        await client.call_tool("search_notes", {"word": "welcome"})
    shown = plughost("ctl", "--config", str(served.config), "tally", "show", "--json")
    assert json.loads(shown)[0]["result"] == {"notes/search_notes": 1}


async def test_the_quickstarts_plugin_is_switched_live(serve: Serve) -> None:
    """A disabled plugin leaves the chain of the running host, an enabled one comes back; the client stays connected."""
    served = serve("quickstart")
    config = ["--config", str(served.config)]
    async with Client(served.url) as client:
        before = served.config.read_text("utf-8")
        assert "disabled tally" in plughost("plugins", "disable", *config, "tally")
        assert "tally" not in plughost("chain", *config, "add_note")
        await client.call_tool("search_notes", {"word": "welcome"})
        assert "enabled tally" in plughost("plugins", "enable", *config, "tally")
        assert "tally" in plughost("chain", *config, "add_note")
        await client.call_tool("search_notes", {"word": "welcome"})
    comments = [line for line in before.splitlines() if "#" in line]
    after = served.config.read_text("utf-8")
    assert [line for line in comments if line not in after] == []


def test_the_quickstarts_client_prints_what_the_tutorial_shows(serve: Serve, tmp_path: Path) -> None:
    """The tutorial's client, pointed at the port in use, prints the lines of the tutorial."""
    url = serve("quickstart").url
    client = tmp_path / "client.py"
    client.write_text((EXAMPLES / "quickstart/client.py").read_text("utf-8").replace("http://127.0.0.1:8000/mcp", url))
    ran = subprocess.run([sys.executable, str(client)], check=True, capture_output=True, text=True)
    assert ran.stdout == "['add_note', 'search_notes', 'clock_now']\nKept 'milk'.\n"
    tutorial = (EXAMPLES.parent / "tutorial/first-server.md").read_text("utf-8")
    assert f"client.py\n{ran.stdout}```" in tutorial


async def test_three_upstreams_are_one_server(serve: Serve) -> None:
    """Tools and resources of three processes answer on one endpoint under the names of the configuration."""
    async with Client(serve("split").url) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["catalog_find", "catalog_price", "order", "shipping_track"]
        assert text_of(await client.call_tool("catalog_price", {"article": "tea"})) == "4.5"
        assert text_of(await client.call_tool("order", {"article": "tea"})) == "1"
        assert text_of(await client.call_tool("shipping_track", {"number": 1})) == "Order 1 is on its way."
        [content] = (await client.read_resource("shipping://countries")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == "AT CH DE"


async def test_a_plugin_in_one_file_rewrites_results(serve: Serve) -> None:
    """The plugin of the tutorial hides addresses with the text that its table gives."""
    async with Client(serve("one_file_plugin").url) as client:
        assert text_of(await client.call_tool("contact", {"name": "ada"})) == "Write to (hidden)."


async def test_a_mounted_host_answers_beside_the_application(tmp_path: Path) -> None:
    """The application's own page and the mounted MCP endpoint are served by one process."""
    port = free_port()
    folder = str(EXAMPLES / "mounted")
    command = [sys.executable, "-m", "uvicorn", "--app-dir", folder, "--port", str(port), "app:app"]
    with serving(command, port, log=tmp_path / "mounted.log"):
        async with httpx2.AsyncClient() as browser:
            assert (await browser.get(f"http://127.0.0.1:{port}/")).text == "The application itself."
        async with Client(f"http://127.0.0.1:{port}/tools/mcp") as client:
            result = await client.call_tool("in_stock", {"article": "tea"})
            assert result.structured_content == {"result": True}


async def test_a_mounted_host_leaves_before_its_server(tmp_path: Path) -> None:
    """An open listen stream, which uvicorn alone would wait for, ends properly, and then the process does."""
    port = free_port()
    command = [sys.executable, str(EXAMPLES / "mounted" / "leaving.py")]
    log = tmp_path / "mounted.log"
    with serving(command, port, log=log, environment={"PORT": str(port)}):
        async with (
            Client(f"http://127.0.0.1:{port}/tools/mcp") as client,
            client.listen(tools_list_changed=True) as stream,
        ):
            [process] = [each for each in psutil.Process().children() if "leaving.py" in " ".join(each.cmdline())]
            process.terminate()
            async for _ in stream:  # what breaks off raises
                pass
        assert process.wait(LIMIT) is not None
    assert "timeout graceful shutdown exceeded" not in log.read_text("utf-8")


async def test_a_stdio_server_is_fronted_in_a_clients_configuration() -> None:
    """The changed entry differs by `plughost run … --` alone, and the server behind it answers through stdio."""
    [before] = json.loads((EXAMPLES / "client/before.json").read_text("utf-8"))["mcpServers"].values()
    [after] = json.loads((EXAMPLES / "client/after.json").read_text("utf-8"))["mcpServers"].values()
    added = after["args"][: after["args"].index("--") + 1]
    assert [after["command"], *after["args"]] == ["plughost", *added, before["command"], *before["args"]]
    clock = [sys.executable, str(EXAMPLES / "quickstart/clock_server.py")]
    server = StdioServerParameters(command=str(SCRIPTS / after["command"]), args=[*added, *clock])
    async with Client(server) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["now"]
        assert text_of(await client.call_tool("now", {})).startswith("20")


def test_the_configuration_in_force_is_shown_with_its_defaults() -> None:
    """Each provider has the keys of its own kind: an upstream's are not on one in process."""
    shown = tomllib.loads(plughost("config", "show", "--config", str(EXAMPLES / "quickstart/plughost.toml")))
    assert shown["host"]["drain_timeout"] == 30.0
    assert shown["providers"]["notes"] == {"python": "notes_server:mcp", "prefix": ""}
    assert shown["providers"]["clock"]["protocol"] == "auto"


def test_a_new_package_has_the_entry_point_that_the_tutorial_shows(tmp_path: Path) -> None:
    """`plughost new redact` writes the lines that make it a plugin."""
    plughost("new", "redact", "--into", str(tmp_path))
    written = tomllib.loads((tmp_path / "redact/pyproject.toml").read_text("utf-8"))
    shown = tomllib.loads((EXAMPLES / "client/entry_point.toml").read_text("utf-8"))
    assert written["project"]["entry-points"] == shown["project"]["entry-points"]
