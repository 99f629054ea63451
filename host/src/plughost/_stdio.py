"""stdin and stdout as the wire of one client, without a thread between.

The SDK's own streams hop to a worker thread for every line read and twice for every line written, which costs more than
the call, and a blocked read cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.stdio import stdio_server

MAX_LINE = 64 * 2**20
"""Longest message on the wire, in bytes; tool results with embedded files are large."""


class Wire:
    """Private copies of descriptors 0 and 1. While held, stray reads find nothing and stray prints go to stderr."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self.stdin, self.stdout = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.close(null)

    def release(self) -> None:
        """Put the descriptors back."""
        sys.stdout.flush()
        os.dup2(self.stdin, 0)
        os.dup2(self.stdout, 1)

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Any, Any]]:
        """The SDK's message streams over the wire."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_LINE)
        source = os.fdopen(self.stdin, "rb", closefd=False)
        sink = os.fdopen(self.stdout, "wb", closefd=False)
        try:
            incoming, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
            outgoing, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
        except ValueError:  # redirected from or to a file, which an event loop cannot wait for
            self.release()
            async with stdio_server() as streams:
                yield streams
            return
        try:
            writer = asyncio.StreamWriter(outgoing, flow, None, loop)
            async with stdio_server(_Lines(reader), _Sink(writer)) as streams:  # type: ignore[arg-type]
                yield streams
        finally:
            incoming.close()
            outgoing.close()


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
