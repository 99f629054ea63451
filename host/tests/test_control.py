"""The control socket, from both ends."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from plughost import ControlError, PluginError
from plughost._control import MAX_LINE, NoHostError, request, serve_control

pytestmark = pytest.mark.anyio


class StubHost:
    """Answers like a host, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.entered = anyio.Event()
        self.release = anyio.Event()

    def status(self) -> dict[str, Any]:
        return {"host": {"name": "stub"}, "plugins": [], "providers": []}

    def chain(self, target: str | None = None, method: str = "tools/call") -> list[dict[str, Any]]:
        return [{"target": target, "method": method}]

    def operations(self) -> dict[str, Any]:
        return {"cache": []}

    async def run_operation(self, instance: str, operation: str, parameters: dict[str, Any] | None = None) -> Any:
        self.asked.append((instance, operation, parameters))
        if operation == "hang":
            self.entered.set()
            await self.release.wait()
        if operation == "refuse":
            raise PluginError(instance, "refuses")
        if operation == "break":
            raise ZeroDivisionError("internal detail")
        if operation == "odd":
            return {("no", "json"): 1}
        return Path("/result")

    async def reload(self, config: object = None) -> dict[str, Any]:
        self.asked.append(("reload", config))
        return {"changed": []}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="run") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def runtime(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    return short_folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "plughost.toml"


@pytest.fixture
async def host() -> StubHost:
    return StubHost()


@pytest.fixture
async def served(host: StubHost, config: Path) -> AsyncIterator[Path]:
    async with serve_control(host, config) as path:  # type: ignore[arg-type]  # as much of a host as is asked for
        yield path


async def ask(config: Path, command: str, **arguments: Any) -> Any:
    """The answer of the one worker."""
    replies = await anyio.to_thread.run_sync(partial(request, config, command, **arguments))
    assert list(replies) == [os.getpid()]
    return replies[os.getpid()]


async def exchange(path: Path, data: bytes) -> Any:
    """What comes back for raw bytes."""
    async with await anyio.connect_unix(path) as stream:
        await stream.send(data)
        return json.loads(await stream.receive(65536))


async def test_commands(host: StubHost, config: Path, served: Path) -> None:
    """Each command is answered by what the host returns, as JSON."""
    assert await ask(config, "ping") == {"pid": os.getpid()}
    assert await ask(config, "status") == host.status()
    assert await ask(config, "chain") == [{"target": None, "method": "tools/call"}]
    assert await ask(config, "chain", target="t", method="prompts/get") == [{"target": "t", "method": "prompts/get"}]
    assert await ask(config, "operations") == {"cache": []}
    assert await ask(config, "operate", instance="a", operation="b", parameters={"c": 1}) == "/result"
    assert await ask(config, "reload") == {"changed": []}
    assert host.asked == [("a", "b", {"c": 1}), ("reload", None)]


async def test_owner_only(served: Path) -> None:
    """Socket and folder are their owner's alone."""
    assert [mode(served), mode(served.parent)] == [0o600, 0o700]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_several_requests_on_one_connection(served: Path) -> None:
    """A connection carries any number of lines."""
    async with await anyio.connect_unix(served) as stream:
        for _ in range(3):
            await stream.send(b'{"command": "ping"}\n')
            assert json.loads(await stream.receive())["result"] == {"pid": os.getpid()}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json", "in JSON: JSONDecodeError"),
        (b"\xff", "in JSON: UnicodeDecodeError"),
        (b"[" * 100_000, "in JSON"),
        (b"[]", "in JSON: TypeError"),
        (b"{}", "KeyError: 'command'"),
        (b'{"command": ["ping"]}', "in JSON: TypeError"),
        (b'{"command": "pong"}', "unknown command 'pong'; did you mean 'ping'?; known: ping, status, chain"),
        (b'{"command": "ping", "arguments": []}', "TypeError"),
        (b'{"command": "ping", "arguments": {"x": 1}}', "unexpected keyword argument 'x'"),
        (b'{"command": "operate", "arguments": {}}', "missing a required argument: 'instance'"),
        (b'{"command": "reload", "arguments": {"config": {}}}', "TypeError"),
        (b'{"command": "operate", "arguments": {"instance": "a", "operation": "refuse"}}', "plugin 'a': refuses"),
        (b'{"command": "operate", "arguments": {"instance": "a", "operation": "odd"}}', "operate failed: TypeError"),
    ],
)
async def test_bad_input(served: Path, line: bytes, message: str) -> None:
    """A bad request is answered with what is wrong, and the next one is served."""
    assert message in (await exchange(served, line + b"\n"))["error"]
    assert "result" in await exchange(served, b'{"command": "ping"}\n')


async def test_endless_line(served: Path) -> None:
    """A line without end is cut off with an error."""
    async with await anyio.connect_unix(served) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(send_all, stream, b"x" * (MAX_LINE + 1))
        assert f"at most {MAX_LINE} bytes" in json.loads(await stream.receive())["error"]
        tasks.cancel_scope.cancel()
    assert "result" in await exchange(served, b'{"command": "ping"}\n')


async def send_all(stream: SocketStream, data: bytes) -> None:
    await stream.send(data)


async def test_client_that_vanishes(host: StubHost, config: Path, served: Path) -> None:
    """A client that goes away in the middle leaves the others served."""
    async with await anyio.connect_unix(served) as stream:
        await stream.send(b'{"command": "operate", "arguments": {"instance": "a", "operation": "hang"}}\n')
        await host.entered.wait()
    async with await anyio.connect_unix(served) as stream:
        await stream.send(b'{"command": "pi')
    host.release.set()
    assert await ask(config, "ping")


async def test_error_of_the_host(config: Path, served: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody expected is logged with its traceback; the client gets its type only (G7)."""
    with pytest.raises(ControlError) as caught:
        await ask(config, "operate", instance="a", operation="break")
    assert "operate failed: ZeroDivisionError; the host's log has the details" in str(caught.value)
    assert "internal detail" not in str(caught.value)
    assert "internal detail" in caplog.text


async def test_host_that_ends(host: StubHost, config: Path) -> None:
    """A host that ends in the middle of a request closes the connection, and its socket is gone."""
    errors: list[str] = []

    async def hang() -> None:
        with pytest.raises(ControlError) as caught:
            await ask(config, "operate", instance="a", operation="hang")
        errors.append(str(caught.value))

    async with anyio.create_task_group() as tasks, serve_control(host, config) as path:  # type: ignore[arg-type]
        tasks.start_soon(hang)
        await host.entered.wait()
    assert "closed before the answer" in errors[0]
    assert not path.exists()


async def test_host_that_hangs(config: Path, served: Path) -> None:
    """A host that does not answer in time is reported as such."""
    with pytest.raises(ControlError, match=r"no answer within 0\.05 s"):
        await ask(config, "operate", wait=0.05, instance="a", operation="hang")


async def test_no_host(config: Path) -> None:
    """Where no host answers, the error says how to start one."""
    with pytest.raises(NoHostError, match=f"no running host serves {config}; start one with: plughost serve --config"):
        request(config, "ping")


async def test_dead_socket(config: Path, served: Path) -> None:
    """The socket of a killed worker is removed, and does not count."""
    dead = served.with_suffix(".999999")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    assert await ask(config, "ping")
    assert not dead.exists()


CHILD = """
import asyncio, sys, anyio
from pathlib import Path
from plughost._control import serve_control

class Host:
    async def reload(self, config=None):
        if sys.argv[2]:
            from plughost import PluginError
            raise PluginError("a", sys.argv[2])
        return {"changed": []}
    status = chain = operations = run_operation = None

async def main():
    async with serve_control(Host(), Path(sys.argv[1])):
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)

anyio.run(main)
"""


def start_worker(config: Path, refusal: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(config), refusal]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def test_several_workers(config: Path, served: Path) -> None:
    """Every worker with the same config is asked; if one refuses, the error names it."""
    children = [start_worker(config, refusal) for refusal in ("", "does not want")]
    try:
        for child in children:
            assert child.stdout is not None
            assert await anyio.to_thread.run_sync(child.stdout.readline) == b"ready\n"
        replies = await anyio.to_thread.run_sync(request, config, "ping")
        assert set(replies) == {os.getpid(), *(child.pid for child in children)}
        with pytest.raises(ControlError) as caught:
            await anyio.to_thread.run_sync(request, config, "reload")
        assert str(caught.value) == f"worker {children[1].pid}: plugin 'a': does not want"
    finally:
        for child in children:
            child.communicate()


async def test_another_config(config: Path, served: Path) -> None:
    """A host is asked by those who name its config, however they write the path."""
    with pytest.raises(NoHostError):
        request(config.with_name("other.toml"), "ping")
    link = config.with_name("link.toml")
    link.symlink_to(config)
    assert await ask(link, "ping")


async def test_shell_without_runtime_folder(
    host: StubHost, config: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that was started without `XDG_RUNTIME_DIR` is found from a shell that has one."""
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    async with serve_control(host, config) as path:  # type: ignore[arg-type]  # see above
        assert path.parent.name == f"plughost-{os.getuid()}"
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        assert await ask(config, "ping")


async def test_long_path(host: StubHost, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder whose path is too long for a socket is passed over."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    async with serve_control(host, config) as path:  # type: ignore[arg-type]  # see above
        assert long not in path.parents


@pytest.mark.parametrize("kind", ["open", "link"])
async def test_folder_of_others(
    host: StubHost, config: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str
) -> None:
    """A folder that others may enter, or that is not really there, is neither listened in nor asked."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    folder = runtime / f"plughost-{os.getuid()}"
    if kind == "open":
        folder.mkdir(mode=0o755)
    else:
        runtime.joinpath("elsewhere").mkdir(mode=0o700)
        folder.symlink_to(runtime / "elsewhere")
    with pytest.raises(ControlError, match=r"no place for the control socket: .* set XDG_RUNTIME_DIR"):
        async with serve_control(host, config):  # type: ignore[arg-type]  # see above
            pass
    with pytest.raises(NoHostError):
        request(config, "ping")
