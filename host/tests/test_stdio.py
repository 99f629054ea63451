"""stdin and stdout as the wire of one client: `plughost serve --stdio`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import IO, Any

import pytest
from asgi_wire import LEGACY, request
from mcp import Client, StdioServerParameters
from mcp_types import TextContent

pytestmark = pytest.mark.anyio
LIMIT = 20
SERVER = """
    import logging
    import os
    import sys
    from pathlib import Path

    import anyio
    from mcp.server.mcpserver import Context, MCPServer

    folder = Path(__file__).parent
    mcp = MCPServer("wired")

    @mcp.tool()
    async def add(a: int, b: int) -> int:
        print("a stray print")
        os.write(1, b"a stray write")
        return a + b

    @mcp.tool()
    async def read() -> str:
        return sys.stdin.read()

    @mcp.tool()
    async def echo(words: str) -> str:
        return words

    @mcp.tool()
    async def grumble(lines: int) -> int:
        for number in range(lines):
            logging.getLogger("wired").warning("%d %s", number, "x" * 1000)
        return lines

    @mcp.tool()
    async def slow(ctx: Context) -> str:
        await ctx.report_progress(1)
        while not folder.joinpath("release").exists():
            await anyio.sleep(0.01)
        return "done"
"""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tmp_path.joinpath("wired_tools.py").write_text(dedent(SERVER))
    file = tmp_path / "plughost.toml"
    file.write_text('[host]\ncontrol = false\ndrain_timeout = 0.3\n[providers.p]\npython = "wired_tools:mcp"\n')
    return file


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "plughost", "serve", "--config", str(config), "--stdio"]


class Process:
    """The host as a child, spoken to line by line."""

    def __init__(self, config: Path, errors: int | None = None) -> None:
        self.errors = config.with_name("errors")
        with self.errors.open("wb") as file:
            self.child = subprocess.Popen(
                command(config),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors or file,
                start_new_session=True,
            )
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.stdin: IO[bytes] = self.child.stdin
        self.stdout: IO[bytes] = self.child.stdout

    def send(self, message: Any) -> None:
        self.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        self.stdin.flush()

    def receive(self) -> Any:
        return json.loads(self.stdout.readline())

    def ask(self, message: Any) -> Any:
        self.send(message)
        return self.receive()

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        for pipe in (self.stdin, self.stdout, self.child.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def process(config: Path) -> Iterator[Process]:
    process = Process(config)
    yield process
    process.close()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_starts_the_host_and_calls(config: Path, mode: str) -> None:
    """In both eras, over the wire that every client knows."""
    first, *rest = command(config)
    async with Client(StdioServerParameters(command=first, args=rest), mode=mode) as client:
        content = (await client.call_tool("add", {"a": 1, "b": 2})).content[0]
    assert isinstance(content, TextContent)
    assert content.text == "3"


@pytest.fixture
def unread(config: Path) -> Iterator[Process]:
    """A host whose standard error nobody reads."""
    process = Process(config, errors=subprocess.PIPE)
    yield process
    process.close()


def test_a_log_that_nobody_reads_holds_up_nobody(unread: Process) -> None:
    """A client may start the host and not read its stderr: calls go on, and so does the end."""
    for _ in range(2):
        assert unread.ask(request("tools/call", {"name": "grumble", "arguments": {"lines": 800}}))["result"]["content"]
    unread.stdin.close()
    assert unread.child.wait(LIMIT) == 0


def test_a_log_that_is_read_late_says_what_it_lost(unread: Process) -> None:
    """So many lines wait, in their order, and what came on top is counted."""
    asked = unread.ask(request("tools/call", {"name": "grumble", "arguments": {"lines": 3000}}))
    assert asked["result"]["content"]
    unread.stdin.close()
    assert unread.child.stderr is not None
    lines = unread.child.stderr.read().splitlines()
    kept = [int(line.split()[4]) for line in lines if b"wired" in line]
    lost = [int(line.split()[0]) for line in lines if b"lines of the log were lost" in line]
    assert 1000 <= len(kept) < 3000
    assert kept == sorted(kept)
    assert len(kept) + sum(lost) == 3000


def test_the_wire_carries_messages_and_nothing_else(process: Process) -> None:
    """Stray prints of a server go to stderr, stray reads find nothing; a broken line ends nothing."""
    assert process.ask(request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}))["result"]["content"]
    read = process.ask(request("tools/call", {"name": "read"}))
    assert read["result"]["structuredContent"] == {"result": ""}
    words = "grüße \u2028 " + "x" * 200_000
    echoed = process.ask(request("tools/call", {"name": "echo", "arguments": {"words": words}}))
    assert echoed["result"]["structuredContent"] == {"result": words}
    process.send(b"{nonsense")
    process.send(b"\xff\xfe")
    process.send(request("server/discover", request_id="after"))
    answers = [process.receive()]
    while answers[-1].get("id") != "after":
        answers.append(process.receive())
    assert answers[-1]["result"]["resultType"] == "complete"
    errors = process.errors.read_text()
    assert "a stray print" in errors
    assert "a stray write" in errors


def test_the_host_ends_when_its_client_leaves(process: Process) -> None:
    """The end of stdin is the end of the host: with 0, and without a traceback."""
    assert "result" in process.ask(INITIALIZE)
    process.stdin.close()
    assert process.child.wait(LIMIT) == 0
    assert "Traceback" not in process.errors.read_text()


def test_sigterm_lets_a_call_finish(process: Process, config: Path) -> None:
    """The answer is written before the process ends with 0."""
    process.send(request("tools/call", {"name": "slow", "_meta": {"progressToken": 1}}))
    assert process.receive()["method"] == "notifications/progress"
    process.child.send_signal(signal.SIGTERM)
    config.with_name("release").touch()
    assert process.receive()["result"]["structuredContent"] == {"result": "done"}
    assert process.child.wait(LIMIT) == 0


def test_sigterm_gives_a_hung_call_up(process: Process) -> None:
    """After `drain_timeout`, with 1."""
    process.send(request("tools/call", {"name": "slow", "_meta": {"progressToken": 1}}))
    assert process.receive()["method"] == "notifications/progress"
    begin = time.monotonic()
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(LIMIT) == 1
    assert time.monotonic() - begin < 5


def test_the_end_of_input_ends_a_listen_stream(process: Process) -> None:
    """With its final result; the client's end holds nothing open, and the exit is 0."""
    process.send(request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, request_id="stream"))
    assert process.receive()["method"] == "notifications/subscriptions/acknowledged"
    process.stdin.close()
    assert process.receive()["id"] == "stream"
    assert process.child.wait(LIMIT) == 0


def test_the_end_of_input_gives_a_hung_call_up(process: Process) -> None:
    """After `drain_timeout`, with 1: its answer never came."""
    process.send(request("tools/call", {"name": "slow", "_meta": {"progressToken": 1}}))
    assert process.receive()["method"] == "notifications/progress"
    process.stdin.close()
    assert process.child.wait(LIMIT) == 1


def test_files_in_place_of_pipes(config: Path) -> None:
    """An event loop cannot wait for a file; the conversation is read from it all the same."""
    asked = config.with_name("asked")
    messages = [INITIALIZE, {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}]
    asked.write_text("".join(json.dumps(message) + "\n" for message in messages))
    with asked.open("rb") as source, config.with_name("told").open("wb") as sink:
        done = subprocess.run(
            command(config), stdin=source, stdout=sink, stderr=subprocess.PIPE, timeout=LIMIT, check=False
        )
    told = [json.loads(line) for line in config.with_name("told").read_text().splitlines()]
    assert done.returncode == 0, done.stderr
    assert [message["id"] for message in told] == [0, 1]
