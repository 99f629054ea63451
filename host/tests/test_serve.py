"""`plughost serve` as a process: sockets, signals, reloads, workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import psutil
import pytest
from asgi_wire import COMMON, LEGACY, headers_for, request
from plughost import ConfigError, PlughostError, load_config
from plughost._serve import bind, serve

pytestmark = pytest.mark.anyio
LIMIT = 20
SERVER = """
    import asyncio
    import os
    import time
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import anyio
    from mcp.server.mcpserver import MCPServer

    folder = Path(__file__).parent
    mcp = MCPServer("served")
    idle = ThreadPoolExecutor(1)
    idle.submit(int).result()

    @mcp.tool()
    async def add(a: int, b: int) -> int:
        print("a stray print")
        return a + b

    @mcp.tool()
    async def pid() -> int:
        return os.getpid()

    @mcp.tool()
    def stuck() -> str:
        with folder.joinpath("entered").open("a") as file:
            file.write(".")
        time.sleep(3600)
        return "late"

    @mcp.tool()
    async def pooled() -> str:
        idle.submit(time.sleep, 3600)
        return "begun"

    @mcp.tool()
    async def defaulted() -> str:
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
        return "begun"

    @mcp.tool()
    async def hung() -> None:
        with folder.joinpath("entered").open("a") as file:
            file.write(".")
        await asyncio.to_thread(time.sleep, 3600)

    @mcp.tool()
    async def hold() -> str:
        with folder.joinpath("entered").open("a") as file:
            file.write(".")
        while not folder.joinpath("release").exists():
            await anyio.sleep(0.01)
        return "done"
"""
PLUGIN = """
    from plughost import MCPPlugin, Middleware, Phase, PluginConfig, hookimpl

    class Words(PluginConfig):
        word: str

    class Saying(MCPPlugin[Words]):
        @hookimpl
        def plughost_middleware(self):
            return [Middleware(self.say, Phase.REUSE, methods={"tools/call"})]

        async def say(self, call, call_next):
            return {"content": [{"type": "text", "text": self.config.word}]}
"""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` gives once it is true; fails after a time limit."""
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


class Served:
    """A folder with a server, a plugin and a config, and the process that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "plughost.toml"
        self.log_file = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        folder.joinpath("served_tools.py").write_text(dedent(SERVER))
        folder.joinpath("saying.py").write_text(dedent(PLUGIN))
        self.write()

    def write(self, *, host: str = "", plugins: str = "") -> None:
        text = f'[host]\nlisten = "127.0.0.1:0"\n{host}\n[providers.p]\npython = "served_tools:mcp"\n{plugins}\n'
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.config)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """The process, from the moment that it listens; killed at the end if it still runs."""
        command = [sys.executable, "-m", "plughost", "serve", "--config", str(self.config), *options]
        with self.log_file.open("wb") as log:
            self.process = process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            listening = wait_for(
                lambda: self._ended() or re.search(r"serves http://127\.0\.0\.1:(\d+)/mcp", self.log), "no"
            )
            assert listening is not True, self.log
            self.port = int(listening[1])
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def entered(self) -> int:
        """How many calls of `hold` have begun."""
        file = self.folder / "entered"
        return file.stat().st_size if file.exists() else 0

    def release(self) -> None:
        self.folder.joinpath("release").touch()

    async def open(self, message: Any, headers: Mapping[str, str], method: str = "POST") -> anyio.abc.SocketStream:
        """A connection on which a request has been sent."""
        body = json.dumps(message).encode() if message is not None else b""
        lines = [f"{method} /mcp HTTP/1.1", "connection: close", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        await stream.send("\r\n".join([*lines, "", ""]).encode() + body)
        return stream

    async def call(self, name: str, **arguments: Any) -> Any:
        """The JSON-RPC response to a tool call; `None` if the connection ended without one."""
        message = request("tools/call", {"name": name, "arguments": arguments})
        async with await self.open(message, headers_for(message)) as stream:
            answer = await everything(stream)
        found = re.search(rb'\{"jsonrpc".*\}', answer)
        return json.loads(found[0]) if found else None

    async def said(self) -> str:
        return str((await self.call("add", a=1, b=2))["result"]["content"][0]["text"])


async def everything(stream: anyio.abc.SocketStream) -> bytes:
    data = b""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            data += await stream.receive()
    return data


async def until(stream: anyio.abc.SocketStream, seen: bytes) -> bytes:
    data = b""
    while seen not in data:
        data += await stream.receive()
    return data


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


# -- the socket --------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_with_a_remedy(served: Served) -> None:
    """Before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served.config.write_text(f'[host]\nlisten = "127.0.0.1:{port}"\n')
        with pytest.raises(PlughostError) as caught:
            serve(served.config)
    remedy = "stop the program that has it, or listen on another: listen in [host], --listen of plughost run"
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use; {remedy}"


def test_a_host_without_providers_says_so(served: Served) -> None:
    """It serves, since a change may bring some; its log says why clients find nothing."""
    with served.running():
        assert "nothing to serve" not in served.log
    served.config.write_text('[host]\nlisten = "127.0.0.1:0"\n')
    with served.running():
        assert "there is nothing to serve: no provider; add a table [providers.NAME]" in served.log


def test_a_lone_surrogate_does_not_lose_a_line(tmp_path: Path) -> None:
    """As JSON may bring one into what is logged: it is escaped, and nothing is said to be lost."""
    served = Served(tmp_path)
    tools = served.folder / "served_tools.py"
    tools.write_text(f"import logging\n{tools.read_text()}\nlogging.warning('odd: %s', chr(0xD800))\n")
    with served.running():
        assert "odd: \\ud800\n" in served.log
        assert "were lost" not in served.log


def test_an_address_of_another_machine_is_named() -> None:
    config = load_config({"host": {"listen": "192.0.2.1:80", "allowed_hosts": ["x"]}})
    with pytest.raises(PlughostError, match=r"cannot listen on 192\.0\.2\.1:80"):
        bind(config)


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
async def test_leaving_under_load_loses_no_call(served: Served, number: signal.Signals) -> None:
    """Twenty calls are under way: each is answered, and then the process ends with 0."""
    responses: list[Any] = []

    async def call() -> None:
        responses.append(await served.call("hold"))

    with served.running() as process, anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)
            await anyio.to_thread.run_sync(wait_for, lambda: served.entered() == 20, "20 calls")
            process.send_signal(number)
            await anyio.to_thread.run_sync(wait_for, lambda: not accepts(served.port), "an end of listening")
            served.release()
        assert await anyio.to_thread.run_sync(process.wait, LIMIT) == 0, served.log
    assert [response["result"]["structuredContent"] for response in responses] == [{"result": "done"}] * 20
    assert "left behind" not in served.log


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


async def test_open_streams_do_not_hold_up_the_exit(served: Served) -> None:
    """A listen stream of 2026-07-28 ends with its result, the standing stream of a session ends, and the exit is 0."""
    with served.running() as process, anyio.fail_after(LIMIT):
        opened = await served.open(INITIALIZE, COMMON)
        session = re.search(rb"mcp-session-id: (\w+)", await everything(opened))
        assert session is not None
        own = {"mcp-session-id": session[1].decode(), "mcp-protocol-version": LEGACY}
        standing = await served.open(None, {**COMMON, **own, "accept": "text/event-stream"}, "GET")
        await until(standing, b"text/event-stream")
        message = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        listening = await served.open(message, headers_for(message))
        await until(listening, b"acknowledged")
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert b'"resultType":"complete"' in await everything(listening)
        await everything(standing)
        assert await anyio.to_thread.run_sync(process.wait, LIMIT) == 0, served.log
        assert time.monotonic() - begin < 5
        await opened.aclose()
        await standing.aclose()
        await listening.aclose()


@pytest.mark.parametrize("tool", ["pooled", "defaulted"])
async def test_a_hung_thread_of_an_executor_does_not_hold_up_the_exit(served: Served, tool: str) -> None:
    """Python joins it, in the loop's own executor and in any other: the process leaves it behind, and says so."""
    with served.running() as process, anyio.fail_after(LIMIT):
        assert (await served.call(tool))["result"]["structuredContent"] == {"result": "begun"}
        process.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(process.wait, LIMIT) == 0, served.log
    assert "threads are left behind that do not end: " in served.log


def test_a_hung_thread_does_not_hold_up_a_start_that_fails(served: Served) -> None:
    """The error is shown, and the exit code is that of the error."""
    served.folder.joinpath("served_tools.py").write_text(
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\n\n"
        "pool = ThreadPoolExecutor(1)\npool.submit(time.sleep, 3600)\nraise ValueError('broken')\n"
    )
    command = [sys.executable, "-m", "plughost", "serve", "--config", str(served.config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "Error: " in ended.stderr
    assert "threads are left behind that do not end: ThreadPoolExecutor" in ended.stderr


@pytest.mark.parametrize("tool", ["hold", "stuck", "hung"])
async def test_a_hung_call_ends_with_the_drain(served: Served, tool: str) -> None:
    """At `drain_timeout` the process gives up on it, says so, and ends with 1; in a thread, too."""
    served.write(host="drain_timeout = 0.3")
    with served.running() as process, anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(served.call, tool)
            await anyio.to_thread.run_sync(wait_for, served.entered, "the call")
            process.send_signal(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(process.wait, LIMIT) == 1, served.log
    assert "1 calls did not finish within 0.3 s" in served.log


async def test_a_second_signal_ends_at_once(served: Served) -> None:
    """Whatever hangs: with 1, long before `drain_timeout`."""
    with served.running() as process, anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(served.call, "hold")
            await anyio.to_thread.run_sync(wait_for, served.entered, "the call")
            process.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(wait_for, lambda: not accepts(served.port), "an end of listening")
            process.send_signal(signal.SIGINT)
            assert await anyio.to_thread.run_sync(process.wait, 5) == 1


# -- reloads -----------------------------------------------------------------------------------------------------------

SAYING = '[plugins.saying]\nplugin = "./saying.py:Saying"\n'


async def until_said(served: Served, word: str) -> None:
    with anyio.fail_after(LIMIT):
        while await served.said() != word:
            pass


async def test_sighup_reloads(served: Served) -> None:
    """A good file takes effect, a bad one is refused with a message, and the process serves on."""
    with served.running() as process:
        assert await served.said() == "3"
        served.write(plugins=f'{SAYING}word = "hello"')
        process.send_signal(signal.SIGHUP)
        await until_said(served, "hello")
        served.write(plugins=f'{SAYING}wrod = "bye"')
        process.send_signal(signal.SIGHUP)
        await anyio.to_thread.run_sync(wait_for, lambda: "kept what runs" in served.log, "a message")
        assert await served.said() == "hello"
    assert "registered saying" in served.log
    assert "did you mean 'word'" in served.log


async def test_watch_reloads(served: Served) -> None:
    """When the file changes, without a signal."""
    with served.running("--watch"):
        assert await served.said() == "3"
        served.write(plugins=f'{SAYING}word = "hello"')
        await until_said(served, "hello")


# -- workers -----------------------------------------------------------------------------------------------------------

SHARED = f'stateless_legacy = true\nrequest_state_keys = ["{"k" * 32}"]\ncontrol = false'


def mode(folder: str) -> int | None:
    """Who may do what with a folder; `None` if it is gone."""
    return stat.S_IMODE(Path(folder).stat().st_mode) if Path(folder).exists() else None


async def test_workers_share_a_port(served: Served) -> None:
    """Two processes answer, and share a private folder; one that dies is replaced; SIGTERM ends them all with 0."""
    served.write(host=SHARED)

    async def a_worker() -> int:
        return int((await served.call("pid"))["result"]["structuredContent"]["result"])

    with served.running("--workers", "2") as process, anyio.fail_after(LIMIT):
        workers: set[int] = set()
        while len(workers) < 2:
            with suppress(OSError):
                workers.add(await a_worker())
        assert process.pid not in workers
        folders = {psutil.Process(worker).environ()["PLUGHOST_WORKERS_FOLDER"] for worker in workers}
        assert [mode(folder) for folder in folders] == [0o700]
        os.kill(dead := workers.pop(), signal.SIGKILL)
        await anyio.to_thread.run_sync(wait_for, lambda: f"worker {dead} ended" in served.log, "a message")
        while not {await a_worker()} - workers - {dead}:
            pass
        process.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(process.wait, LIMIT) == 0, served.log
    assert [mode(folder) for folder in folders] == [None]


async def test_a_signal_of_the_terminal_drains_workers(served: Served) -> None:
    """It goes to the whole process group; a worker hears it once, and answers the call that it has."""
    served.write(host=SHARED)
    responses: list[Any] = []

    async def call() -> None:
        responses.append(await served.call("hold"))

    with served.running("--workers", "2") as process, anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.to_thread.run_sync(wait_for, served.entered, "the call")
            os.killpg(process.pid, signal.SIGINT)
            family = psutil.Process(process.pid)
            await anyio.to_thread.run_sync(wait_for, lambda: len(family.children()) < 2, "the end of the idle worker")
            served.release()
        assert await anyio.to_thread.run_sync(process.wait, LIMIT) == 0, served.log
    assert responses[0]["result"]["structuredContent"] == {"result": "done"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_that_have_not_begun_owe_nobody_an_answer(served: Served, number: signal.Signals) -> None:
    """A signal while they are starting ends them, and the exit is 0."""
    served.write(host=SHARED)
    command = [sys.executable, "-m", "plughost", "serve", "--config", str(served.config), "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        family = psutil.Process(process.pid)
        wait_for(lambda: len(family.children()) == 2, "two workers")
        process.send_signal(number)
        assert process.wait(LIMIT) == 0


def test_workers_refuse_what_they_cannot_share(served: Served) -> None:
    """Sessions live in one process, and so do keys that nobody configured: both faults are named at once."""
    with pytest.raises(ConfigError) as caught:
        serve(served.config, workers=2)
    assert [fault.where for fault in caught.value.faults] == ["host.stateless_legacy", "host.request_state_keys"]


def test_workers_are_checked_before_they_are_started(served: Served) -> None:
    """A fault is one message, not one from each worker."""
    served.write(host=SHARED, plugins=f"{SAYING}wrod = 1")
    with pytest.raises(ConfigError, match="did you mean 'word'"):
        serve(served.config, workers=2)
