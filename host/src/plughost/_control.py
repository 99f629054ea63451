"""The control socket: how the command line talks to a running host.

A Unix-domain socket in a folder that only its owner may enter. Its name is a digest of the config file's path and the
process id, so that each worker, and a second host with the same config, listens on its own. Both sides speak JSON
lines: `{"command": …, "arguments": {…}}`, answered by `{"result": …}` or `{"error": …}`.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from plughost._errors import ControlError, PlughostError, did_you_mean

if TYPE_CHECKING:
    from plughost._host import Host

Commands = Mapping[str, Callable[..., Any]]

logger = logging.getLogger("plughost.control")

MAX_LINE = 2**20
"""Longest request, in bytes."""
MAX_PATH = 100
"""Longest path of a socket; systems differ from 104 to 108 bytes."""


class NoHostError(ControlError):
    """Raised when no running host serves the config."""


def _folders() -> list[Path]:
    """Where sockets may be, best first. A service and a shell need not agree on `XDG_RUNTIME_DIR`."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    shared = Path(tempfile.gettempdir()) / f"plughost-{os.getuid()}"
    return [Path(runtime) / "plughost", shared] if runtime else [shared]


def _is_private(folder: Path) -> bool:
    """Whether it is a real folder that nobody else may enter."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _digest(config: Path) -> str:
    return sha256(bytes(config.resolve())).hexdigest()[:16]


def _new_socket_path(config: Path) -> Path:
    name = f"{_digest(config)}.{os.getpid()}"
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
        if _is_private(folder) and len(bytes(folder / name)) <= MAX_PATH:
            return folder / name
    raise ControlError(
        f"no place for the control socket: none of {', '.join(map(str, _folders()))} is a private folder with a short "
        "path; set XDG_RUNTIME_DIR to one, or control = false in [host]"
    )


# ---------------------------------------------------------------------------------------------------------------------
# The client
# ---------------------------------------------------------------------------------------------------------------------


def request(config: Path, command: str, *, wait: float | None = 10, **arguments: Any) -> dict[int, Any]:
    """Ask every worker of every host that serves this config; the results by process id.

    `wait` bounds each answer in seconds; a change waits for calls in flight, so `None` there.

    Raises:
        NoHostError: No host serves this config.
        ControlError: A worker refused or failed. All were asked, whatever the first said.
    """
    line = json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
    paths = [path for folder in _folders() if _is_private(folder) for path in folder.glob(f"{_digest(config)}.*")]
    replies = {int(path.suffix[1:]): reply for path in sorted(paths) if (reply := _ask(path, line, wait)) is not None}
    if not replies:
        raise NoHostError(f"no running host serves {config}; start one with: plughost serve --config {config}")
    failed = {pid: reply["error"] for pid, reply in replies.items() if "error" in reply}
    if failed:
        who = len(replies) > 1
        raise ControlError("\n".join(f"worker {pid}: " * who + error for pid, error in failed.items()))
    return {pid: reply["result"] for pid, reply in replies.items()}


def _ask(path: Path, line: bytes, wait: float | None) -> dict[str, Any] | None:
    """The reply of one worker; `None` if it is dead, and then its socket is removed."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(wait)
        try:
            client.connect(str(path))
            client.sendall(line)
            with client.makefile("rb") as answer:
                return cast("dict[str, Any]", json.loads(answer.readline()))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return None
        except TimeoutError:
            return {"error": f"no answer within {wait} s; the host is busy or hangs"}
        except (OSError, ValueError):
            return {"error": "the connection was closed before the answer; the host's log may say why"}


# ---------------------------------------------------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serve_control(host: Host, config: Path) -> AsyncIterator[Path]:
    """Serve commands for `host`, whose config file this is, while the block runs. Gives the socket's path.

    Raises:
        ControlError: There is no private folder for the socket.
    """
    path = _new_socket_path(config)
    commands: Commands = {
        "ping": lambda: {"pid": os.getpid()},
        "status": host.status,
        "chain": host.chain,
        "operations": host.operations,
        "operate": host.run_operation,
        "reload": partial(host.reload, None),
    }
    async with await anyio.create_unix_listener(path, mode=0o600) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, partial(_converse, commands))
        try:
            yield path
        finally:
            tasks.cancel_scope.cancel()
            path.unlink(missing_ok=True)


async def _converse(commands: Commands, stream: SocketStream) -> None:
    lines = BufferedByteReceiveStream(stream)
    async with stream:
        with suppress(anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                try:
                    line = await lines.receive_until(b"\n", MAX_LINE)
                except anyio.DelimiterNotFound:
                    await stream.send(_error(f"a request is one line of at most {MAX_LINE} bytes"))
                    return
                await stream.send(await _answer(commands, line))


async def _answer(commands: Commands, line: bytes) -> bytes:
    try:
        asked = json.loads(line)
        name, arguments = asked["command"], asked.get("arguments", {})
        if name not in commands:
            return _error(f"unknown command {name!r}{did_you_mean(name, commands)}; known: {', '.join(commands)}")
        inspect.signature(commands[name]).bind(**arguments)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return _error(f'a request is {{"command": NAME, "arguments": {{…}}}} in JSON: {type(error).__name__}: {error}')
    try:
        result = commands[name](**arguments)
        result = await result if inspect.isawaitable(result) else result
        return json.dumps({"result": result}, default=str).encode() + b"\n"
    except PlughostError as error:
        return _error(str(error))
    except Exception as error:
        logger.exception("control command %s failed", name)
        return _error(f"{name} failed: {type(error).__name__}; the host's log has the details")


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode() + b"\n"
