"""Real processes that are told to end: what clients see, and the exit code."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import pytest
from anyio.abc import SocketStream, TaskGroup
from mcp import Client, MCPError
from plughost import ErrorCode
from plughost_testing import LiveHostFactory
from plughost_testing.services import HostProcess, Stack

pytestmark = [pytest.mark.anyio, pytest.mark.services]
LIMIT = 60
SERVER = """
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, MCPServer

folder = Path(__file__).parent
mcp = MCPServer("notes")


@mcp.tool()
async def hold(ctx: Context, number: int) -> int:
    await ctx.report_progress(1)
    with folder.joinpath("entered").open("a") as file:
        file.write(".")
    while not folder.joinpath("release").exists():
        await anyio.sleep(0.1)
    await ctx.report_progress(2)
    return number
"""
STATE_KEYS = ["k" * 32]


def serve(stack: Stack, *options: str, host: Mapping[str, Any] | None = None, **config: Any) -> HostProcess:
    tables = {
        "host": host or {},
        "providers": {"notes": {"python": "held_notes:mcp"}},
        "plugins": {"shutdown": config},
    }
    return stack.start(HostProcess(tables, *options, files={"held_notes.py": SERVER}))


async def entered(folder: Path, count: int) -> None:
    """Return when so many calls have reached the tool."""
    file = folder / "entered"
    while not file.exists() or file.stat().st_size < count:  # noqa: ASYNC110 - another process writes it
        await anyio.sleep(0.02)


async def ended(served: HostProcess) -> int:
    """The exit code."""
    assert served.process is not None
    return await anyio.to_thread.run_sync(served.process.wait, LIMIT)


def tell(served: HostProcess, number: signal.Signals) -> None:
    assert served.process is not None
    served.process.send_signal(number)


class Callers:
    """Clients with calls under way, their answers and how much progress they were told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[int] = []
        self.progress: list[float] = []
        self.ended_listening = anyio.Event()

    def start(self, tasks: TaskGroup, *, clients: int, calls: int) -> None:
        for client in range(clients):
            tasks.start_soon(self._client, range(client * calls, (client + 1) * calls))

    async def _client(self, numbers: range) -> None:
        async with Client(self.url, cache=None) as client, anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(self._call, client, number)

    async def _call(self, client: Client, number: int) -> None:
        result = await client.call_tool("hold", {"number": number}, progress_callback=self._progressed)
        assert result.structured_content is not None
        self.answers.append(result.structured_content["result"])

    async def _progressed(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append(progress)

    async def listen(self, client: Client) -> None:
        """Listen until the host ends the stream properly; what breaks off raises."""
        async with client.listen(tools_list_changed=True) as stream:
            async for _ in stream:
                pass
        self.ended_listening.set()


def get(served: HostProcess, path: str) -> tuple[int, Mapping[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=LIMIT)
    connection.request("GET", path, headers={"accept": "text/event-stream"})
    response = connection.getresponse()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}


async def held(served: HostProcess) -> SocketStream:
    """A connection with a call on it that has reached the tool."""
    body = ask("hold", 1, number=1)
    headers = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "content-length": len(body),
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "hold",
    }
    stream = await anyio.connect_tcp("127.0.0.1", served.port)
    lines = ["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    await stream.send("\r\n".join([*lines, "", ""]).encode() + body)
    await entered(served.folder, 1)
    return stream


async def test_sigterm_under_200_calls_loses_none(stack: Stack) -> None:
    """Each is answered, with progress; a new one is told to retry; a listener gets its final result; the exit is 0."""
    served = serve(stack, drain_timeout="60s")
    callers = Callers(served.url)
    with anyio.fail_after(LIMIT):
        async with Client(served.url, cache=None) as late, anyio.create_task_group() as tasks:
            tasks.start_soon(callers.listen, late)
            callers.start(tasks, clients=4, calls=50)
            await entered(served.folder, 200)
            tell(served, signal.SIGTERM)
            await callers.ended_listening.wait()  # calls in flight do not hold that up
            with pytest.raises(MCPError) as refused:
                await late.call_tool("hold", {"number": -1})
            elsewhere = await anyio.to_thread.run_sync(get, served, "/nowhere")
            standing = await anyio.to_thread.run_sync(get, served, "/mcp")
            (served.folder / "release").touch()
        assert await ended(served) == 0, served.output()
    assert sorted(callers.answers) == list(range(200))
    assert sorted(callers.progress) == [1] * 200 + [2] * 200
    assert (refused.value.code, refused.value.data["retryAfterMs"]) == (ErrorCode.SHUTTING_DOWN, 1000)
    assert (elsewhere[0], elsewhere[1]["connection"]) == (404, "close")
    assert (standing[0], standing[1]["retry-after"]) == (503, "1")


async def test_a_hung_call_ends_at_the_limit(stack: Stack) -> None:
    """The exit code is 1: somebody got no answer."""
    served = serve(stack, drain_timeout="300ms")
    with anyio.fail_after(LIMIT):
        async with await held(served):
            begin = time.monotonic()
            tell(served, signal.SIGTERM)
            assert await ended(served) == 1, served.output()
            assert 0.3 < time.monotonic() - begin < 20
    assert "1 calls did not finish within 0.3 s" in (served.folder / "log").read_text("utf-8")


async def test_a_second_signal_ends_at_once(stack: Stack) -> None:
    """In the grace, with calls in flight, whatever the limits are: with 1."""
    served = serve(stack, grace="1h", drain_timeout="1h")
    with anyio.fail_after(LIMIT):
        async with await held(served):
            tell(served, signal.SIGTERM)
            while (await anyio.to_thread.run_sync(get, served, "/nowhere"))[1].get("connection") != "close":
                pass
            begin = time.monotonic()
            tell(served, signal.SIGQUIT)
            assert await ended(served) == 1
            assert time.monotonic() - begin < 20


async def test_all_workers_drain(stack: Stack) -> None:
    """Each for itself; the exit is 0 when none had to give up a call."""
    served = serve(
        stack,
        "--workers",
        "2",
        host={"stateless_legacy": True, "request_state_keys": STATE_KEYS},
        drain_timeout="60s",
    )
    callers = Callers(served.url)
    assert served.process is not None
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            callers.start(tasks, clients=8, calls=5)
            await entered(served.folder, 40)
            family = psutil.Process(served.process.pid).children()
            tell(served, signal.SIGTERM)
            await anyio.sleep(0.2)
            (served.folder / "release").touch()
        assert await ended(served) == 0, served.output()
    assert sorted(callers.answers) == list(range(40))
    assert len(family) == 2
    assert not any(worker.is_running() for worker in family)


def ask(name: str, request_id: int, **arguments: Any) -> bytes:
    envelope = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": {**envelope, "progressToken": request_id}}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}).encode() + b"\n"


def test_stdio_refuses_and_finishes(live_host: LiveHostFactory, tmp_path: Path) -> None:
    """No grace with a single client: a new call is refused at once, the one in flight is answered, the exit is 0."""
    tmp_path.joinpath("held_notes.py").write_text(SERVER)
    config = {
        "host": {},
        "providers": {"notes": {"python": "held_notes:mcp"}},
        "plugins": {"shutdown": {"grace": "1h"}},
    }
    command = live_host.stdio(config, folder=tmp_path)
    with subprocess.Popen(
        [command.command, *command.args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(ask("hold", 1, number=7))
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["method"] == "notifications/progress"
        child.send_signal(signal.SIGTERM)
        told, last = {}, 1
        while "error" not in told:  # until it has heard the signal
            last += 1
            child.stdin.write(ask("hold", last, number=7))
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
        tmp_path.joinpath("release").touch()
        answers = [message for line in child.stdout if "result" in (message := json.loads(line))]
        assert child.wait(LIMIT) == 0
    assert (told["id"], told["error"]["code"]) == (last, ErrorCode.SHUTTING_DOWN)
    assert sorted(answer["id"] for answer in answers) == list(range(1, last))
