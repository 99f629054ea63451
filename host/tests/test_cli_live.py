"""The command line against a running `plughost serve`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from click.testing import CliRunner, Result
from mcp import Client
from plughost._cli import cli
from plughost._control import NoHostError, request

pytestmark = pytest.mark.anyio

SERVER = """
import asyncio, os
from mcp.server import MCPServer

mcp = MCPServer("slow")
other = MCPServer("other")

@other.tool()
async def nothing() -> None: ...

@mcp.tool()
async def wait() -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["GATE_PORT"]))
    await reader.read()
    writer.close()
    return "done"
"""

PLUGINS = """
import os
from pydantic import BaseModel
from plughost import MCPPlugin, Middleware, Operation, Phase, PluginConfig, hookimpl

class Guard(MCPPlugin):
    @hookimpl
    def plughost_middleware(self):
        return [Middleware(self.handle, Phase.GUARD, methods={"tools/call"})]

    async def handle(self, call, call_next):
        return await call_next(call)

class Add(BaseModel, extra="forbid"):
    left: int
    right: int = 1
    label: str = ""

class Sums(MCPPlugin):
    @hookimpl
    def plughost_operations(self):
        return [
            Operation("add", self.add, parameters=Add, summary="Adds two numbers."),
            Operation("name", self.tell, summary="Tells its name."),
        ]

    async def add(self, parameters):
        return {"sum": parameters.left + parameters.right, "label": parameters.label}

    async def tell(self, parameters):
        return self.name

class Failing(MCPPlugin):
    async def register(self, host):
        raise ConnectionError("no database at db:5432")

class Picky(MCPPlugin):
    async def register(self, host):
        if "REFUSES" in os.environ:
            raise ConnectionError("not here")
"""

CONFIG = """\
[host]
listen = "127.0.0.1:0"
[providers.slow]
python = "slow_server:mcp"
[providers.other]
python = "slow_server:other"

# guards everything
[plugins.guard]
plugin = "./own.py:Guard"  # ours
[plugins.sums]
plugin = "./own.py:Sums"
[plugins.failing]
plugin = "./own.py:Failing"
enabled = false
[plugins.picky]
plugin = "./own.py:Picky"
enabled = false
[plugins.optional]
plugin = "./own.py:Failing"
required = false
"""

Run = Callable[..., Result]
Serve = Callable[[], AbstractContextManager["Running"]]


class Running:
    """A host process and the URL of its MCP endpoint."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url


@pytest.fixture
def gate() -> Iterator[socket.socket]:
    """Where the tool `wait` connects, and waits for the end of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


@pytest.fixture
def config(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: socket.socket) -> Iterator[Path]:
    site.install("acme-extra", {"extra": "acme_extra:Guard"}, modules={"acme_extra": PLUGINS})
    (tmp_path / "slow_server.py").write_text(SERVER)
    (tmp_path / "own.py").write_text(PLUGINS)
    path = tmp_path / "plughost.toml"
    path.write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATE_PORT", str(gate.getsockname()[1]))
    with tempfile.TemporaryDirectory(prefix="run") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield path


@pytest.fixture
def serve(config: Path) -> Serve:
    """Runs `plughost serve` while a block runs, and sees that it ends well."""

    @contextmanager
    def serve() -> Iterator[Running]:
        command = [sys.executable, "-m", "plughost", "serve"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                log = ""
                while not (found := re.search(r"serves (http://\S+)", log)):
                    line = process.stderr.readline()
                    assert line, f"the host ended: {log}"
                    log += line
                yield Running(process, found[1])
                process.send_signal(signal.SIGTERM)
                _, rest = process.communicate(timeout=30)
                assert process.returncode == 0, log + rest
            finally:
                process.kill()

    return serve


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(cli, arguments, prog_name="plughost")


def statuses(run: Run) -> dict[str, str]:
    return {row["name"]: row["status"] for row in json.loads(run("plugins", "list", "--json").stdout)}


def test_list(serve: Serve, run: Run, config: Path) -> None:
    """The listing tells what the running host tells: status, reason, position, hooks."""
    with serve():
        found = {row["name"]: row for row in json.loads(run("plugins", "list", "--json").stdout)}
        text = run("plugins", "list").stdout
    assert (found["guard"]["status"], found["guard"]["position"]) == ("active", ["GUARD 1"])
    assert found["guard"]["hooks"] == ["plughost_middleware"]
    assert found["failing"]["status"] == "disabled"
    assert (found["optional"]["status"], found["optional"]["plugin"]) == ("failed", "./own.py:Failing")
    assert "no database at db:5432" in found["optional"]["reason"]
    assert found["extra"]["status"] == "available"
    assert re.search(r"^guard +active +- +GUARD 1 +One file: ./own\.py$", text, re.MULTILINE)
    assert statuses(run)["guard"] == "available"


def test_switching(serve: Serve, run: Run, config: Path) -> None:
    """`disable` and `enable` change file and host, and print what happened."""
    with serve():
        result = run("plugins", "disable", "guard")
        assert re.fullmatch(r"disabled guard, 0 calls drained in \d+ ms\n", result.stdout), result.output
        assert statuses(run)["guard"] == "disabled"
        assert run("chain").stdout.splitlines() == ["PHASE  INSTANCE  PLUGIN  MATCH"]
        assert re.fullmatch(r"enabled guard in \d+ ms\n", run("plugins", "enable", "guard").stdout)
        assert statuses(run)["guard"] == "active"
        assert run("plugins", "enable", "guard").stdout == "enabled guard; the host had it so already\n"
        report = json.loads(run("plugins", "enable", "extra", "--json").stdout)
        assert report["workers"][0]["changed"][0]["action"] == "registered"
    expected = CONFIG.replace("[plugins.guard]\n", "[plugins.guard]\nenabled = true\n")
    assert config.read_text() == expected + "\n[plugins.extra]\n"


async def test_calls_in_flight(serve: Serve, run: Run, config: Path, gate: socket.socket) -> None:
    """A call that is under way finishes on the old pipeline; `disable` waits for it, and counts it."""
    answers: dict[str, Any] = {}

    async def call(url: str) -> None:
        async with Client(url) as client:
            answers["call"] = await client.call_tool("wait", {})

    async def disable() -> None:
        answers["disable"] = await anyio.to_thread.run_sync(run, "plugins", "disable", "guard")

    def swapped() -> bool:
        return not any(layer["instance"] == "guard" for reply in request(config, "chain").values() for layer in reply)

    with serve() as host:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, host.url)
            connection, _ = await anyio.to_thread.run_sync(gate.accept)
            with connection:
                tasks.start_soon(disable)
                with anyio.fail_after(20):
                    while not await anyio.to_thread.run_sync(swapped):
                        pass
                assert answers == {}
    assert answers["call"].content[0].text == "done"
    assert re.fullmatch(r"disabled guard, 1 call drained in \d+ ms\n", answers["disable"].stdout)


def test_refusal_of_the_host(serve: Serve, run: Run, config: Path) -> None:
    """What the host refuses is undone: the reason on stderr, exit code 1, the file as before, byte for byte."""
    before = config.read_bytes()
    with serve():
        result = run("plugins", "enable", "failing")
        assert result.exit_code == 1
        assert "no database at db:5432" in result.stderr
        assert config.read_bytes() == before
        assert statuses(run)["failing"] == "disabled"
        assert statuses(run)["guard"] == "active"


def test_environment_of_the_host(serve: Serve, run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """References are those of the host's environment; the operator's shell need not have the secrets."""
    config.write_text(CONFIG.replace("[host]\n", "[host]\nname = '${ONLY_THE_HOST_HAS_IT}'\n"))
    monkeypatch.setenv("ONLY_THE_HOST_HAS_IT", "acme")
    with serve():
        monkeypatch.delenv("ONLY_THE_HOST_HAS_IT")
        assert run("plugins", "disable", "guard").exit_code == 0
        assert statuses(run)["guard"] == "disabled"
    result = run("plugins", "enable", "guard")
    assert (result.exit_code, "ONLY_THE_HOST_HAS_IT is not set" in result.stderr) == (2, True)


def test_two_hosts(serve: Serve, run: Run) -> None:
    """Two hosts with one config are both told, each with its process id."""
    with serve() as first, serve() as second:
        lines = run("plugins", "disable", "guard").stdout.splitlines()
        told = {int(line.split()[1].rstrip(":")) for line in lines if "disabled guard" in line}
        assert told == {first.process.pid, second.process.pid}
        assert run("ctl", "sums", "name").stdout.count("worker ") == 2


def test_one_worker_refuses(serve: Serve, run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of several refuses, the others go back too."""
    before = config.read_bytes()
    with serve():
        monkeypatch.setenv("REFUSES", "1")
        with serve() as second:
            result = run("plugins", "enable", "picky")
            assert result.exit_code == 1
            assert f"worker {second.process.pid}: " in result.stderr
            assert "not here" in result.stderr
            replies = request(config, "status").values()
            assert [row["name"] for reply in replies for row in reply["plugins"] if row["name"] == "picky"] == []
    assert config.read_bytes() == before


def test_killed_host(serve: Serve, run: Run, config: Path) -> None:
    """A host that was killed leaves a socket that nobody minds."""
    command = [sys.executable, "-m", "plughost", "serve"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "serves" not in process.stderr.readline():
            assert process.poll() is None
        process.kill()
    assert "no host is running with it" in run("plugins", "disable", "guard").stdout
    with pytest.raises(NoHostError):
        request(config, "ping")


def test_control_turned_off(serve: Serve, run: Run, config: Path) -> None:
    """`control = false` leaves no socket."""
    config.write_text(CONFIG.replace("[host]\n", "[host]\ncontrol = false\n"))
    with serve():
        with pytest.raises(NoHostError):
            request(config, "ping")
        assert "no host is running with it" in run("plugins", "disable", "guard").stdout


def test_ctl(serve: Serve, run: Run) -> None:
    """`ctl` lists and runs operations; values are what their parameters want."""
    with serve() as host:
        assert run("ctl", "sums").stdout == (
            "OPERATION  PARAMETERS                  SUMMARY\n"
            "add        left=… [right=…] [label=…]  Adds two numbers.\n"
            "name                                   Tells its name.\n"
        )
        assert [item["name"] for item in json.loads(run("ctl", "sums", "--json").stdout)] == ["add", "name"]
        assert json.loads(run("ctl", "sums", "add", "left=2", "label=3").stdout) == {"sum": 3, "label": "3"}
        assert run("ctl", "sums", "name").stdout == "sums\n"
        assert json.loads(run("ctl", "sums", "name", "--json").stdout) == [
            {"worker": host.process.pid, "result": "sums"}
        ]


REFUSED = [
    (["summs"], 1, "plugin 'summs': is not running; did you mean 'sums'?"),
    (["sums", "ad"], 1, "has no operation 'ad'; did you mean 'add'?"),
    (["sums", "add", "left"], 2, "'left' is not KEY=VALUE"),
    (["sums", "add", "left=two"], 1, "left: Input should be a valid integer"),
    (["sums", "add", "left=1", "rihgt=2"], 1, "rihgt: unknown key; did you mean 'right'?"),
]


def test_refused_operations(serve: Serve, run: Run) -> None:
    """An operation that cannot be run is an error that says why."""
    with serve():
        for arguments, code, message in REFUSED:
            result = run("ctl", *arguments)
            assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_chain(serve: Serve, run: Run) -> None:
    """`chain` asks the running host for a target's chain; an unknown one is an error with a suggestion."""
    with serve():
        assert [layer["instance"] for layer in json.loads(run("chain", "wait", "--json").stdout)] == ["guard"]
        result = run("chain", "wiat")
    assert (result.exit_code, "did you mean 'wait'?" in result.stderr) == (1, True)


def test_host_that_hangs(serve: Serve, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer is a warning in the listing, not the end of it."""
    from plughost import _control

    monkeypatch.setattr(_control, "request", partial(request, wait=0.2))
    with serve() as host:
        os.kill(host.process.pid, signal.SIGSTOP)
        try:
            result = run("plugins", "list", "--json")
        finally:
            os.kill(host.process.pid, signal.SIGCONT)
    assert "no answer within 0.2 s" in result.stderr
    assert {row["name"]: row["status"] for row in json.loads(result.stdout)}["guard"] == "available"
