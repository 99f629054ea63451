"""`plughost dev` as a process, with clients that stay connected while its plugin is edited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import TextContent
from plughost import HostConfig, PlughostError, PluginTable
from plughost_testing._work import Work, find_work
from plughost_testing.services.service import Service, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.services]
LIMIT = 20.0

SERVER = """
    from mcp.server.mcpserver import MCPServer

    mcp = MCPServer("words")

    @mcp.tool(structured_output=False)
    def say(word: str) -> str:
        return word
"""
PLUGIN = """
    from plughost import MCPPlugin, Middleware, Phase, PluginConfig, hookimpl
    {more}

    class Settings(PluginConfig):
        mark: str = "!"

    class Marker(MCPPlugin[Settings]):
        @hookimpl
        def plughost_middleware(self):
            return [Middleware(self.sign, Phase.TRANSFORM, methods={{"tools/call"}})]

        async def sign(self, call, call_next):
            result = await call_next(call)
            [block] = result["content"]
            return {{**result, "content": [{{**block, "text": {text}}}]}}
"""
ENTRY = "[project.entry-points.'plughost.plugins']\nmarker = 'acme_marker:Marker'\n"
INSTALLED = "[plughost.plugins]\nmarker = acme_marker:Marker\n"


def write(path: Path, text: str, *, nanosecond: int | None = None) -> None:
    """As editors do: whoever watches sees the old file or the new one. It is from now, or from one certain second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(dedent(text), "utf-8")
    if nanosecond is not None:
        os.utime(fresh, ns=(0, 10**18 + nanosecond))
    fresh.replace(path)


def plugin(text: str = 'block["text"] + self.config.mark', more: str = "") -> str:
    return PLUGIN.format(text=text, more=more)


class Dev(Service):
    """`plughost dev` in a folder with a server, a config and the plugin, as a file and as an installed package."""

    def __init__(self) -> None:
        super().__init__()
        self.options: Sequence[str] = ()
        self.file = self.folder / "marker.py"
        self.sources = self.folder / "acme" / "src" / "acme_marker"
        self.config = self.folder / "plughost.toml"
        write(self.folder / "words.py", SERVER)
        write(self.file, plugin())
        write(self.sources / "__init__.py", plugin("mark(block['text'])", "from acme_marker.marks import mark"))
        write(self.sources / "marks.py", "def mark(text):\n    return text + '!'\n")
        write(self.folder / "acme" / "pyproject.toml", ENTRY)
        installed = self.folder / "site" / "acme_marker-0.1.0.dist-info"
        write(installed / "METADATA", "Metadata-Version: 2.1\nName: acme-marker\nVersion: 0.1.0\nSummary: Marks.\n")
        write(installed / "entry_points.txt", INSTALLED)
        self.configure()

    def configure(self, plugins: str = "") -> None:
        listen = f'[host]\nlisten = "127.0.0.1:{self.port}"\ncontrol = false\n'
        write(self.config, f'{listen}[providers.words]\npython = "words:mcp"\n{plugins}\n')

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "plughost", "dev", *self.options]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(self.folder / "site"), "PYTHONDONTWRITEBYTECODE": ""}

    def works_on(self, *options: str) -> None:
        self.options = options
        self.start()

    def awaits(self, text: str, times: int = 1) -> None:
        """Wait until it has printed this so often."""
        assert wait_until(lambda: self.output().count(text) >= times, LIMIT), self.output()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


@pytest.fixture
def dev() -> Iterator[Dev]:
    process = Dev()
    yield process
    process.remove()


async def said(client: Client) -> str:
    result = await client.call_tool("say", {"word": "hi"})
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_edited_file_changes_what_a_connected_client_gets(dev: Dev, mode: Any) -> None:
    """The same session, of either era, gets the new behaviour; the process stays the same."""
    dev.works_on("./marker.py:Marker")
    process = dev.process
    async with Client(dev.url, mode=mode) as client:
        assert await said(client) == "hi!"
        write(dev.file, plugin("block['text'].upper()"))
        dev.awaits("replaced marker")
        assert await said(client) == "HI"
    assert dev.running
    assert dev.process is process


async def test_a_broken_edit_keeps_what_runs_until_it_is_mended(dev: Dev) -> None:
    """One line names the plugin and the error; the next good edit is taken."""
    dev.works_on("./marker.py:Marker")
    async with Client(dev.url) as client:
        write(dev.file, "class Marker(:\n")
        dev.awaits("kept what runs: plugin 'marker'")
        [line] = [line for line in dev.output().splitlines() if "kept what runs" in line]
        assert "cannot be imported: SyntaxError: invalid syntax (marker.py, line 1)" in line
        assert dev.output().endswith(f"{line}\n")
        assert await said(client) == "hi!"
        write(dev.file, plugin("'mended'"))
        dev.awaits("replaced marker")
        assert await said(client) == "mended"


async def test_any_module_of_a_package_is_imported_anew(dev: Dev) -> None:
    """An edit beside `__init__.py` counts, even if neither size nor second tells it from the former file."""
    write(dev.sources / "marks.py", "def mark(text):\n    return text + '!'\n", nanosecond=0)
    dev.works_on("acme")
    async with Client(dev.url) as client:
        assert await said(client) == "hi!"
        for number, mark in enumerate("?.:", start=1):
            write(dev.sources / "marks.py", f"def mark(text):\n    return text + '{mark}'\n", nanosecond=number)
            dev.awaits("replaced marker", number)
            assert await said(client) == f"hi{mark}"


async def test_a_broken_package_keeps_its_former_modules(dev: Dev) -> None:
    """What the running plugin imports later is what it was written with; a mended one is taken."""
    late = "__import__('acme_marker.marks').marks.mark(block['text'])"
    write(dev.sources / "__init__.py", plugin(late))
    dev.works_on("acme")
    async with Client(dev.url) as client:
        assert await said(client) == "hi!"
        write(dev.sources / "marks.py", "def mark(text):\n    return 'half an edit'\n")
        write(dev.sources / "__init__.py", f"import acme_marker.marks\n{dedent(plugin(late))}\nraise OSError('no')\n")
        dev.awaits("cannot be imported: OSError: no")
        assert await said(client) == "hi!"
        write(dev.sources / "__init__.py", plugin(late))
        dev.awaits("replaced marker")
        assert await said(client) == "half an edit"


async def test_a_plugin_that_fails_to_register_keeps_the_former_one(dev: Dev) -> None:
    """`required = false` in the config does not silence what is worked on."""
    dev.configure("[plugins.marker]\nrequired = false\n")
    dev.works_on("acme")
    async with Client(dev.url) as client:
        broken = (
            dedent(plugin("'new'")) + "\n    async def register(self, host):\n        raise OSError('no database')\n"
        )
        write(dev.sources / "__init__.py", broken)
        dev.awaits("kept what runs: plugin 'marker'")
        assert "register() raised OSError: no database" in dev.output()
        assert await said(client) == "hi!"


async def test_a_provider_that_does_not_start_keeps_the_former_plugin(dev: Dev) -> None:
    """What a server of the plugin answers to being started is no reason for the host to end."""
    dev.works_on("./marker.py:Marker")
    async with Client(dev.url) as client:
        away = """
            from mcp import MCPError
            from mcp.server.mcpserver import MCPServer
            from plughost import InProcessProvider, MCPPlugin, hookimpl

            class Away(InProcessProvider):
                async def start(self, listener):
                    raise MCPError(-32000, "away")

            class Marker(MCPPlugin):
                @hookimpl
                def plughost_providers(self):
                    return [Away("away", MCPServer("away"))]
        """
        write(dev.file, away)
        dev.awaits("kept what runs: provider 'away': does not start: MCPError: away")
        assert await said(client) == "hi!"


async def test_other_plugins_are_left_alone(dev: Dev) -> None:
    """They keep their state while the one under work is replaced."""
    counter = 'block["text"] + str(self.__dict__.update(n=self.__dict__.get("n", 0) + 1) or self.n)'
    write(dev.folder / "counter.py", plugin(counter))
    dev.configure('[plugins.counter]\nplugin = "./counter.py:Marker"\n')
    dev.works_on("acme")
    async with Client(dev.url) as client:
        assert await said(client) == "hi!1"
        write(dev.sources / "marks.py", "def mark(text):\n    return text + '?'\n")
        dev.awaits("replaced marker")
        assert await said(client) == "hi?2"


async def test_the_plugins_keys_come_from_the_config_which_is_watched_too(dev: Dev) -> None:
    """An instance of another name, with keys of its own, is the one under work, and follows the config."""
    table = '[plugins.mine]\nplugin = "./marker.py:Marker"\nmark = "{}"\n'
    dev.configure(table.format("."))
    dev.works_on("marker.py:Marker")
    async with Client(dev.url) as client:
        assert await said(client) == "hi."
        dev.configure(table.format("?"))
        dev.awaits("replaced mine")
        assert await said(client) == "hi?"
        write(dev.file, plugin("self.config.mark"))
        dev.awaits("replaced mine", 2)
        assert await said(client) == "?"


async def test_a_reload_on_demand_keeps_the_plugin_that_no_config_names(dev: Dev) -> None:
    """SIGHUP reads the config anew; what is worked on stays, since it was named on the command line."""
    dev.works_on("acme")
    async with Client(dev.url) as client:
        dev.configure("[plugins.second]\nplugin = './marker.py:Marker'\nmark = '?'\n")
        assert dev.process is not None
        dev.process.send_signal(signal.SIGHUP)
        dev.awaits("registered second")
        assert sorted(await said(client)) == sorted("hi!?")


async def test_a_client_on_stdio_sees_the_edit(dev: Dev) -> None:
    """`--stdio` serves one client, who stays connected, without any config file."""
    folder = dev.folder / "alone"
    tool = """
        from mcp.server.mcpserver import MCPServer
        from plughost import InProcessProvider, MCPPlugin, hookimpl

        class Sayer(MCPPlugin):
            @hookimpl
            def plughost_providers(self):
                server = MCPServer("sayer")
                server.tool(structured_output=False)(self.say)
                return [InProcessProvider("sayer", server)]

            def say(self, word: str) -> str:
                return {text}
    """
    write(folder / "sayer.py", tool.format(text="word"))
    arguments = [*dev.command()[1:], "--stdio", "sayer.py:Sayer"]
    with (dev.folder / "log").open("w") as log:
        server = StdioServerParameters(command=sys.executable, args=arguments, cwd=folder, env=dict(os.environ))
        from mcp.client.stdio import stdio_client

        async with Client(stdio_client(server, errlog=log)) as client:
            assert await said(client) == "hi"
            write(folder / "sayer.py", tool.format(text="word.upper()"))
            dev.awaits("replaced sayer")
            assert await said(client) == "HI"


def test_a_package_that_is_not_installed_is_refused(dev: Dev) -> None:
    """The message gives the command."""
    ran = subprocess.run([*dev.command(), "acme"], cwd=dev.folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr == "Error: plugin 'marker' of 'acme' is not installed; do it once: pip install -e acme\n"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("gone.py:Marker", "there is no file 'gone.py'"),
        ("marker.py", r"write marker\.py:CLASS"),
        ("site", "has no entry points 'plughost.plugins'"),
    ],
)
def test_what_is_no_plugin_is_refused(dev: Dev, monkeypatch: pytest.MonkeyPatch, path: str, problem: str) -> None:
    """The message says what to name."""
    monkeypatch.chdir(dev.folder)
    with pytest.raises(PlughostError, match=problem):
        find_work(path)


def test_a_name_that_another_plugin_has_is_refused() -> None:
    """What the config calls by that name is not the plugin under work."""
    work = Work({"marker": "marker"}, ())
    config = HostConfig(plugins={"marker": PluginTable(plugin="other")})
    with pytest.raises(PlughostError, match=r"give it a table of its own, with plugin = 'marker'"):
        work.put_into(config, 0)


def test_compiled_and_hidden_files_are_not_watched(tmp_path: Path) -> None:
    """Neither running the tests nor an open editor reloads the plugin."""
    for name in ("it.py", "words.txt", "it.py~", ".it.py.swp", "__pycache__/it.pyc"):
        write(tmp_path / name, "")
    assert {path.name for path in Work({}, (tmp_path,)).look()} == {"it.py", "words.txt"}
