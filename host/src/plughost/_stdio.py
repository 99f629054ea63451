"""stdin and stdout as the wire of one client, without a thread between.

The SDK's own streams hop to a worker thread for every line read and twice for every line written, which costs more than
the call, and a blocked read cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp.shared.message import SessionMessage
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

MAX_LINE = 64 * 2**20
"""Longest message on the wire, in bytes; tool results with embedded files are large."""


class Wire:
    """Private copies of descriptors 0 and 1. While held, stray reads find nothing and stray prints go to stderr."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self.stdin, self.stdout = os.dup(0), os.dup(1)
        self._incoming: asyncio.ReadTransport | None = None
        self.answered = True
        """Whether every request has been answered, once the streams have ended."""
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.close(null)

    def end(self) -> None:
        """Read no more, as if the client had closed its end."""
        if self._incoming is not None:
            self._incoming.close()

    def release(self) -> None:
        """Put the descriptors back."""
        sys.stdout.flush()
        os.dup2(self.stdin, 0)
        os.dup2(self.stdout, 1)

    @asynccontextmanager
    async def streams(self, patience: float, ended: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
        """The SDK's message streams over the wire.

        At the end of input `ended` is called, and what is unanswered gets up to `patience` seconds.
        """
        unanswered = Unanswered(patience)
        async with self._open() as (read, write):
            yield _Incoming(read, unanswered, ended), _Outgoing(write, unanswered)
        self.answered = not unanswered.given_up

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[tuple[Any, Any]]:
        if not all(_can_be_waited_for(fd) for fd in (self.stdin, self.stdout)):
            self.release()
            async with stdio_server() as streams:
                yield streams
            return
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_LINE)
        source = os.fdopen(self.stdin, "rb", closefd=False)
        sink = os.fdopen(self.stdout, "wb", closefd=False)
        incoming, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
        self._incoming = incoming
        outgoing, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
        try:
            writer = asyncio.StreamWriter(outgoing, flow, None, loop)
            async with stdio_server(_Lines(reader), _Sink(writer)) as streams:  # type: ignore[arg-type]
                yield streams
        finally:
            incoming.close()
            outgoing.close()


def _can_be_waited_for(fd: int) -> bool:
    """Whether an event loop can wait for it; for a file or /dev/null it cannot."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


class _Lines:
    """What the SDK iterates for incoming lines."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def __aiter__(self) -> AsyncIterator[str]:
        while line := await self._reader.readline():
            yield line.decode("utf-8", "replace")


class _Sink:
    """What the SDK writes outgoing lines to."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, text: str) -> None:
        self._writer.write(text.encode("utf-8", "replace"))

    async def flush(self) -> None:
        await self._writer.drain()


class Unanswered:
    """The requests that have been read and not been answered: the end of input must not cancel them."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._ids: set[RequestId] = set()
        self.given_up = False
        self._none = anyio.Event()

    def read(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            self._ids.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._settle(cancelled_request_id_from_params(message.params))

    def written(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            self._settle(message.id)

    def _settle(self, request_id: RequestId | None) -> None:
        if request_id is not None:
            self._ids.discard(request_id)
        if not self._ids:
            self._none.set()

    async def wait(self) -> None:
        """Return when all are answered, or patience has run out."""
        if self._ids:
            self._none = anyio.Event()
            with anyio.move_on_after(self._patience):
                await self._none.wait()
            self.given_up = bool(self._ids)


class _Incoming:
    """The SDK's read stream, whose end waits for the answers."""

    def __init__(self, inner: Any, unanswered: Unanswered, ended: Callable[[], None]) -> None:
        self._inner = inner
        self._unanswered = unanswered
        self._ended = ended

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            item = await self._inner.__anext__()
        except StopAsyncIteration:
            self._ended()
            await self._unanswered.wait()
            raise
        if isinstance(item, SessionMessage):
            self._unanswered.read(item.message)
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Outgoing:
    """The SDK's write stream, which tells what has been answered."""

    def __init__(self, inner: Any, unanswered: Unanswered) -> None:
        self._inner = inner
        self._unanswered = unanswered

    async def send(self, item: SessionMessage) -> None:
        await self._inner.send(item)
        self._unanswered.written(item.message)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
