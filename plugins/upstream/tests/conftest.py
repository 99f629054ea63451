"""Upstreams for the tests: real processes and HTTP servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import pytest
from upstreams.running import HTTPServer, Upstreams


@pytest.fixture
async def upstreams(anyio_backend: str) -> AsyncIterator[Upstreams]:
    made = Upstreams()
    async with anyio.create_task_group() as made.tasks:
        yield made
        for one in made.started:
            await one.stop()
    await made.plugin.unregister()


@pytest.fixture
def http_server() -> Iterator[Callable[..., HTTPServer]]:
    """Starts HTTP servers, and kills them in the end."""
    made: list[HTTPServer] = []

    def make(*options: str) -> HTTPServer:
        server = HTTPServer(*options)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture(scope="module")
def dual() -> Iterator[HTTPServer]:
    """An HTTP server of both eras, for tests that leave it as it is."""
    server = HTTPServer()
    server.start()
    yield server
    server.kill()
