"""Clients of both eras reach three replicas through one nginx, and hear what happens on any of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent
from mcp_types import ElicitResult, ToolListChangedNotification

from replicas.cluster import Cluster, Start

pytestmark = [pytest.mark.services, pytest.mark.anyio]

NOTE = "note://1"
SOON = 1.0
"""Seconds within which a client has heard of a change."""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPTED = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def modern(cluster: Cluster, **options: Any) -> AsyncIterator[Client]:
    async with Client(cluster.url, cache=None, **options) as client:
        yield client


@asynccontextmanager
async def legacy(cluster: Cluster, **options: Any) -> AsyncIterator[Client]:
    async with Client(cluster.url, mode="legacy", cache=None, **options) as client:
        yield client


async def result_of(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    assert result.structured_content is not None
    return result.structured_content["result"]


async def test_any_replica_answers(cluster: Cluster) -> None:
    """Calls of one client of 2026-07-28 are spread over all replicas."""
    async with modern(cluster) as client:
        assert {await result_of(client, "where") for _ in range(6)} == cluster.pids


async def test_rounds_land_on_different_replicas(cluster: Cluster) -> None:
    """A call that asks twice goes on where it comes back to: what it knew is in the state that all can unseal (H2)."""

    async def elicit(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={params.message: f"my-{params.message}"})

    async with modern(cluster, elicitation_callback=elicit) as client:
        rounds = [(await result_of(client, "book")).split() for _ in range(3)]
    for first, one, second, other in rounds:
        assert (first, second) == ("my-first", "my-second")
        assert one != other
        assert {int(one), int(other)} < cluster.pids


async def test_a_session_stays_where_it_began(cluster: Cluster) -> None:
    """Each session is served by one replica, and sessions are spread."""
    seen = []
    for _ in range(3):
        async with legacy(cluster) as client:
            [pid] = {await result_of(client, "where") for _ in range(4)}
            seen.append(pid)
    assert set(seen) == cluster.pids


async def test_a_session_of_another_replica_is_missing(cluster: Cluster) -> None:
    """The id names the replica; sent to another, or made up, it answers 404 like one that does not exist (H1)."""
    async with httpx2.AsyncClient(headers=ACCEPTED) as client:
        begun = await client.post(cluster.url, json=INITIALIZE)
        number, _, own = begun.headers["mcp-session-id"].partition("-")
        assert number in "123"
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}

        async def status(session: str) -> int:
            return (await client.post(cluster.url, json=ping, headers={"mcp-session-id": session})).status_code

        assert await status(f"{number}-{own}") == 200
        assert await status(f"{int(number) % 3 + 1}-{own}") == 404
        assert await status(f"{number}-{'0' * 32}") == 404
        assert await status(f"9-{own}") == 404


@pytest.mark.parametrize("connect", [modern, legacy])
async def test_progress_arrives_while_the_call_runs(cluster: Cluster, connect: Any) -> None:
    """nginx holds nothing back: each message of a stream arrives when it is sent."""
    arrived: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        arrived.append(time.monotonic())

    async with connect(cluster) as client:
        await client.call_tool("count", {"steps": 3, "pause": 0.2}, progress_callback=progress)
        ended = time.monotonic()
    assert len(arrived) == 3
    assert ended - arrived[0] > 0.5
    assert arrived[2] - arrived[0] > 0.3


async def heard(events: AsyncIterator[ServerEvent]) -> None:
    with anyio.fail_after(SOON):
        while await anext(events) != ResourceUpdated(NOTE):
            pass


async def test_a_change_anywhere_is_heard(cluster: Cluster) -> None:
    """A client that listens through nginx hears a change on each of the replicas within a second."""
    async with modern(cluster) as client, client.listen(resource_subscriptions=[NOTE]) as news:
        left = cluster.pids
        with anyio.fail_after(10):
            while left:  # who comes next is nginx's business
                left -= {await result_of(client, "change")}
                await heard(aiter(news))


async def test_a_session_hears_a_change_anywhere(cluster: Cluster) -> None:
    """So does a session of an earlier revision, on its standing stream."""
    told: list[object] = []

    async def listen(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            told.append(message)

    async with legacy(cluster, message_handler=listen), modern(cluster) as other:
        left = cluster.pids
        while left:
            told.clear()
            left -= {await result_of(other, "change")}
            with anyio.fail_after(SOON):
                while not told:  # noqa: ASYNC110 - what is waited for is in another process
                    await anyio.sleep(0.01)


async def test_stateless_needs_no_stickiness(start: Start) -> None:
    """With `stateless_legacy` any replica answers any call of an earlier revision, and no session begins."""
    cluster = start(host={"stateless_legacy": True})
    async with legacy(cluster) as client:
        assert {await result_of(client, "where") for _ in range(6)} == cluster.pids
    async with httpx2.AsyncClient(headers=ACCEPTED) as raw:
        assert "mcp-session-id" not in (await raw.post(cluster.url, json=INITIALIZE)).headers
