"""Starts servers as processes of their own and stops them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_LIMIT = 30.0
STOP_LIMIT = 15.0


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    command: Sequence[str],
    port: int,
    *,
    log: Path,
    environment: Mapping[str, str] = {},
    start_limit: float = START_LIMIT,
) -> Iterator[str]:
    """Run `command` until the block ends; gives the URL of its MCP endpoint once it accepts connections on `port`.

    Raises:
        RuntimeError: It ended or did not listen in time, or did not stop at SIGTERM; the message holds its output.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            _await_listener(process, port, log, start_limit)
            yield f"http://127.0.0.1:{port}/mcp"
            _stop(process, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_listener(process: subprocess.Popen[bytes], port: int, log: Path, limit: float) -> None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened: {_tail(log)}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on port {port} after {limit:.0f} s: {_tail(log)}")


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{process.args!r} did not stop {STOP_LIMIT:.0f} s after SIGTERM: {_tail(log)}") from None


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-4000:]
