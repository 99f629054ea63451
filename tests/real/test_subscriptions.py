"""A client hears through the host that a resource of a real server changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPDeprecationWarning, StdioServerParameters
from mcp.client.subscriptions import ResourceUpdated
from mcp_types import ResourceUpdatedNotification

from real.hosting import run, served
from real.servers import SERVERS
from real.talk import Target

pytestmark = [pytest.mark.real, pytest.mark.anyio, pytest.mark.timeout(120)]

GRAPH = "memory://knowledge-graph"
ADA = {"name": "Ada", "entityType": "person", "observations": []}
LIMIT = 10


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    """The memory server, whose graph is a resource that clients may subscribe to."""
    return SERVERS["memory"].command(tmp_path)


@pytest.fixture
def url(command: tuple[str, ...], tmp_path: Path) -> Iterator[str]:
    """The host in front of it."""
    with served(f"command = {json.dumps(command)}", tmp_path) as address:
        yield address


def connection(target: Target) -> Any:
    return target if isinstance(target, str) else StdioServerParameters(command=target[0], args=list(target[1:]))


async def hears_with_2025(target: Target) -> str:
    """The URI that a client of 2025-11-25 is told of, once it subscribed and changed the graph."""
    told: list[str] = []
    heard = anyio.Event()

    async def listen(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            told.append(message.params.uri)
            heard.set()

    with anyio.fail_after(LIMIT):
        async with Client(connection(target), mode="legacy", message_handler=listen) as client:
            with pytest.warns(MCPDeprecationWarning):
                await client.subscribe_resource(GRAPH)
            await client.call_tool("create_entities", {"entities": [ADA]})
            await heard.wait()
    return told[0]


async def hears_with_2026(target: Target) -> str:
    """The same of a client of 2026-07-28, which listens on a stream."""
    with anyio.fail_after(LIMIT):
        async with (
            Client(connection(target)) as client,
            client.listen(resource_subscriptions=[GRAPH]) as subscription,
        ):
            await client.call_tool("create_entities", {"entities": [ADA]})
            event = await anext(aiter(subscription))
    assert isinstance(event, ResourceUpdated)
    return event.uri


async def test_the_server_tells_its_subscriber(command: tuple[str, ...]) -> None:
    """Alone, the memory server says that its graph changed: the yardstick measures something."""
    assert await hears_with_2025(command) == GRAPH


async def test_serve_passes_an_update_on(url: str) -> None:
    """A session of 2025-11-25 over HTTP gets the notification."""
    assert await hears_with_2025(url) == GRAPH


async def test_run_passes_an_update_on(command: tuple[str, ...]) -> None:
    """So does one over stdio."""
    assert await hears_with_2025(run(command)) == GRAPH


async def test_serve_streams_an_update_of_an_old_server(url: str) -> None:
    """A stream of 2026-07-28 over HTTP carries what a server of 2025-11-25 announces."""
    assert await hears_with_2026(url) == GRAPH


async def test_run_streams_an_update_of_an_old_server(command: tuple[str, ...]) -> None:
    """So does one over stdio."""
    assert await hears_with_2026(run(command)) == GRAPH
