"""The fixtures: hosts, clients, and what they refuse to leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from mcp import Client
from plughost import Clock
from plughost_testing import (
    ClientFactory,
    HostFactory,
    LiveHostFactory,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
)

SERVER = """
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")

@mcp.tool()
def add(a: int, b: int) -> int:
    return a + b
"""


@pytest.mark.anyio
class TestHosts:
    async def test_host_holds_exactly_what_it_was_given(self, host: HostFactory) -> None:
        """No installed plugin is in the chain, only those given."""
        running = await host(RecordingMiddleware(), providers=[ScriptedProvider("notes", tools=["add"])])
        assert [layer["instance"] for layer in running.chain("add")] == ["recording"]

    async def test_host_is_on_virtual_time(self, host: HostFactory, virtual_clock: VirtualClock) -> None:
        """The host's clock is the test's."""
        running = await host()
        assert running.clock is virtual_clock
        assert running.get(Clock) is virtual_clock  # type: ignore[type-abstract]  # shared under its protocol

    async def test_hosts_outlive_the_block_they_are_made_in(self, host: HostFactory) -> None:
        """A host may be made inside a time limit and used after it."""
        with anyio.fail_after(5):
            running = await host()
        assert running.running

    async def test_in_memory(self, host: HostFactory, client: ClientFactory) -> None:
        """A client of each era calls a tool in memory."""
        await self.call(await client(await host(providers=[ScriptedProvider("notes", tools=["add"])])))

    async def test_over_http(self, live_host: LiveHostFactory, client: ClientFactory) -> None:
        """A client of each era calls a tool over HTTP."""
        live = await live_host(providers=[ScriptedProvider("notes", tools=["add"])])
        assert live.url.startswith("http://127.0.0.1:")
        await self.call(await client(live))

    async def test_over_stdio(self, live_host: LiveHostFactory, client: ClientFactory, tmp_path: Path) -> None:
        """A client of each era calls a tool of a host that runs as a process."""
        (tmp_path / "notes_server.py").write_text(SERVER, "utf-8")
        caller = await client(live_host.stdio({"providers": {"notes": {"python": "notes_server:mcp"}}}))
        assert (await caller.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}

    async def call(self, client: Client) -> None:
        result = await client.call_tool("add", {"a": 1})
        assert result.content[0].type == "text"
        assert result.content[0].text == f"add({json.dumps({'a': 1})})"


LEAKY = """
import asyncio, logging, socket, subprocess, threading
import anyio
import pytest
from plughost_testing import Inventory, check_leaks

EVENT = threading.Event()

def task(keep):
    asyncio.create_task(anyio.sleep_forever(), name="forgotten")

def listener(keep):
    keep(socket.create_server(("127.0.0.1", 0)))

def file(keep):
    keep(open(__file__))

def process(keep):
    keep(subprocess.Popen(["sleep", "60"]))

def thread(keep):
    threading.Thread(target=EVENT.wait, name="stray", daemon=True).start()

def handler(keep):
    logging.getLogger("some.where").addHandler(logging.NullHandler())

def nothing(keep):
    asyncio.create_task(asyncio.sleep(0))

class Garbage:
    def __init__(self):
        self.me = self
        self.file = open(__file__)

    def __del__(self):
        self.file.close()

def garbage(keep):
    Garbage()

@pytest.fixture(scope="module")
def keep():
    kept = []
    yield kept.append
    EVENT.set()
    logging.getLogger("some.where").handlers.clear()
    for item in kept:
        getattr(item, "kill", getattr(item, "close", None))()
        getattr(item, "wait", lambda: None)()

@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock.backend

@pytest.mark.anyio
@pytest.mark.parametrize("leak", [task, listener, file, process, thread, handler, nothing, garbage])
async def test_leak(host, keep, leak):
    await host()
    leak(keep)

@pytest.mark.anyio
async def test_timer(keep):
    before = Inventory.take(timers=True)
    asyncio.get_running_loop().call_later(60, print)
    await check_leaks(before, what="the timer's test", timers=True)
"""


def test_leaks_are_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that leaves something behind fails at its end, and the message names the thing; others do not."""
    monkeypatch.setattr("plughost_testing._leaks.PATIENCE", 0.2)  # what these leave does not go
    pytester.makepyfile(LEAKY)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=8, errors=6, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*LeakError: the test left behind:*",
            "*task 'forgotten'*sleep_forever*",
            "*socket * (socket:*",
            "*descriptor * (*.py)*",
            "*child process *: sleep 60*",
            "*thread 'stray'*",
            "*handler <NullHandler*of logger 'some.where'*",
            "*the timer's test left behind:*",
            "*timer <TimerHandle*print*",
        ]
    )
