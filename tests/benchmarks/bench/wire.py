"""A small HTTP/1.1 load generator: one prepared request over kept connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

from bench import message

PATIENCE_SECONDS = 10.0


class Connection(asyncio.Protocol):
    """One kept connection with one request under way at most."""

    def __init__(self) -> None:
        lines = [f"{name}: {value}\r\n" for name, value in message.headers().items()]
        self._request = f"POST {message.PATH} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + message.body()
        self._buffer = b""
        self._reply: asyncio.Future[bytes]
        self.answered = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if separator and self._complete(head.lower(), rest) and not self.answered:
            self.answered = True
            self._reply.set_result(self._buffer)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered:
            self.answered = True
            self._reply.set_exception(exc or ConnectionError("the server closed the connection"))

    async def exchange(self) -> bytes:
        """Send the request and return the reply, head and body.

        Raises:
            ConnectionError: The server closed the connection.
        """
        if self.transport.is_closing():
            raise ConnectionError("the server has closed the connection")
        self._buffer = b""
        self.answered = False
        self._reply = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)
        return await self._reply

    def _complete(self, head: bytes, rest: bytes) -> bool:
        _, has_length, after = head.partition(b"content-length: ")
        return len(rest) >= int(after.split(b"\r\n")[0]) if has_length else rest.endswith(b"0\r\n\r\n")


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[Sequence[Connection]]:
    """`count` connections to the server on `port`, each of which has answered a call already."""
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for connection in connections:
                reply = await connection.exchange()
                message.check(reply, int(reply.split(maxsplit=2)[1]))
        yield connections
    finally:
        for connection in connections:
            connection.transport.close()


async def latencies(connection: Connection, calls: int) -> list[float]:
    """Seconds of each of `calls` calls, one after the other."""
    seconds = []
    for _ in range(calls):
        before = time.perf_counter()
        await connection.exchange()
        seconds.append(time.perf_counter() - before)
    return seconds


async def throughput(connections: Sequence[Connection], seconds: float) -> float:
    """Calls per second over all connections at once."""
    end = time.perf_counter() + seconds

    async def work(connection: Connection) -> int:
        count = 0
        while time.perf_counter() < end:
            await connection.exchange()
            count += 1
        return count

    before = time.perf_counter()
    counts = await asyncio.gather(*map(work, connections))
    return sum(counts) / (time.perf_counter() - before)
