"""Starts a stdio server as a child process and speaks to it, line by line, until it ends or is stopped."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
from anyio.abc import ByteReceiveStream, Process
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from plughost import ProviderError

from plughost_upstream._config import Upstream
from plughost_upstream._guard import Guard
from plughost_upstream._reaper import alive

STOP_GRACE = 2.0
"""Seconds a child has to end after its stdin closed, and again after SIGTERM."""
LAST_WORDS = 0.5
"""Seconds to wait for the exit code of a child that closed its stdout: it says why."""
LOG_LINE = 8192
"""Bytes of one line of a child's stderr that are logged."""
_POLL = 0.01
_CHUNK = 65536


def find_program(upstream: Upstream) -> str:
    """The path of the upstream's program.

    Raises:
        ProviderError: It does not exist or cannot be executed: no waiting mends that.
    """
    program = upstream.command[0]
    if not upstream.cwd.is_dir():
        raise ProviderError(
            upstream.name, f"cwd {str(upstream.cwd)!r} is not a folder", remedy="Create it, or mend cwd"
        )
    if os.sep in program:
        program = str(upstream.cwd / program)
    found = shutil.which(program, path=upstream.environment(os.environ).get("PATH", os.defpath))
    if found is None:
        remedy = (
            "Install it, or write its full path; the arguments are separate items of the list, no shell is involved"
        )
        raise ProviderError(upstream.name, f"there is no program {upstream.command[0]!r}", remedy=remedy)
    return found


class Child:
    """A running stdio server and the streams to it."""

    def __init__(self, upstream: Upstream, process: Process) -> None:
        self._upstream = upstream
        self._process = process
        self._log = logging.getLogger(f"plughost.upstream.{upstream.name}")
        self._problem = ""
        self._last_words = ""
        self._inbox, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](64)
        outgoing, self._outbox = anyio.create_memory_object_stream[SessionMessage](0)
        self.streams = (incoming, outgoing)

    def epitaph(self) -> str:
        """Why the connection ended, as far as the process tells."""
        code = self._process.returncode
        if code is None:
            return self._problem
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        words = f"; its last words: {self._last_words!r}" if self._last_words else ""
        return f"the process {how}{words}"

    async def read(self) -> None:
        """Hand on what the child writes to its stdout, until it closes it."""
        assert self._process.stdout is not None
        async with self._inbox:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._end_reading, tasks.cancel_scope)
                    await self._read_lines(self._process.stdout)
                    tasks.cancel_scope.cancel()
            await self._wait(self._exited, LAST_WORDS)

    def _exited(self) -> bool:
        return self._process.returncode is not None

    async def _end_reading(self, reading: anyio.CancelScope) -> None:
        """End the reading soon after the child's end: a child of its own may hold the pipe open for ever."""
        if hasattr(os, "pidfd_open"):
            with suppress(ProcessLookupError), closing_fd(os.pidfd_open(self._process.pid)) as fd:
                await anyio.wait_readable(fd)
        while not self._exited():  # noqa: ASYNC110 - where the kernel cannot tell, or the event loop does not know yet
            await anyio.sleep(_POLL * 10)
        await anyio.sleep(LAST_WORDS)
        reading.cancel()

    async def _read_lines(self, stdout: ByteReceiveStream) -> None:
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                chunk = await stdout.receive(_CHUNK)
            except anyio.EndOfStream:
                return
            first, *others = chunk.split(b"\n")
            parts.append(first)
            size += len(first)
            for part in others:
                await self._deliver(b"".join(parts))
                parts, size = [part], len(part)
            if size > self._upstream.table.max_message:
                self._problem = f"it sent a message of more than {self._upstream.table.max_message} bytes"
                return

    async def _deliver(self, line: bytes) -> None:
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            if line.strip():  # the line itself may hold anything: it is not logged (G6)
                self._log.warning(
                    "wrote %d bytes to stdout that are not JSON-RPC; its logs belong on stderr", len(line)
                )
            return
        await self._inbox.send(SessionMessage(message))

    async def write(self) -> None:
        """Write what the session sends to the child's stdin."""
        assert self._process.stdin is not None
        async with self._outbox:
            async for item in self._outbox:
                data = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                try:
                    await self._process.stdin.send(data)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    await self._inbox.aclose()  # it may live on, but deaf: the session must learn of it
                    return

    async def log(self) -> None:
        """Log what the child writes to its stderr, in lines of bounded length."""
        assert self._process.stderr is not None
        line = b""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
            while True:
                *lines, line = (line + await self._process.stderr.receive(_CHUNK)).split(b"\n")
                line = line[:LOG_LINE]
                for item in lines:
                    self._say(item)
        self._say(line)

    def _say(self, line: bytes) -> None:
        if text := line[:LOG_LINE].decode(errors="replace").rstrip():
            self._last_words = text[:500]
            self._log.info("%s", text)

    async def stop(self) -> None:
        """Close stdin, wait, then end the whole process group: first kindly, then not. Every wait is bounded."""
        process, group = self._process, self._process.pid
        assert process.stdin is not None
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await process.stdin.aclose()
        await self._wait(self._exited, STOP_GRACE)
        for sign in (signal.SIGTERM, signal.SIGKILL):  # also after the child itself: it may have left children (L2)
            if not alive(group):
                break
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, sign)
            await self._wait(lambda: not alive(group), STOP_GRACE)

    @staticmethod
    async def _wait(done: Callable[[], bool], limit: float) -> None:
        """Poll: on asyncio, waiting for the process also waits for pipes that its children may hold open."""
        with anyio.move_on_after(limit):
            while not done():  # noqa: ASYNC110 - see above
                await anyio.sleep(_POLL)

    async def close(self) -> None:
        """Close the pipes and streams."""
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await pipe.aclose()
        for stream in (*self.streams, self._inbox, self._outbox):
            await stream.aclose()
        _close_transport(self._process)


def _close_transport(process: Process) -> None:
    """Close asyncio's transport, which stays open while its reading is paused or a daemon holds a pipe open.

    Nothing public leads to it.
    """
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    if callable(close := getattr(transport, "close", None)):
        close()


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close a file descriptor in the end."""
    try:
        yield fd
    finally:
        os.close(fd)


@asynccontextmanager
async def open_stdio(upstream: Upstream, guard: Guard) -> AsyncGenerator[Child, None]:
    """Start the upstream's command in a process group of its own, without a shell, and stop it in the end (L1, L2).

    Raises:
        ProviderError: There is no such program.
        OSError: It cannot be started now.
    """
    program = find_program(upstream)
    process = await anyio.open_process(
        [program, *upstream.command[1:]],
        env=upstream.environment(os.environ),
        cwd=upstream.cwd,
        start_new_session=True,
    )
    guard.watch(process.pid)  # no await before this: a cancellation would leak the child
    child = Child(upstream, process)
    try:
        async with anyio.create_task_group() as tasks:
            for job in (child.read, child.write, child.log):
                tasks.start_soon(job)
            try:
                yield child
            finally:
                with anyio.CancelScope(shield=True):
                    await child.stop()
                    await child.close()
                tasks.cancel_scope.cancel()
    finally:
        guard.forget(process.pid)
