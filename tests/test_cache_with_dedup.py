"""Cache and dedup together: neither brings back what the other has given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning
from plughost import Host, Kind, MCPPlugin
from plughost_cache import CacheConfig, CachePlugin
from plughost_dedup import DedupConfig, DedupPlugin
from plughost_testing import ClientFactory, HostFactory, Pause, ScriptedProvider, VirtualClock, make_call, make_host

pytestmark = pytest.mark.anyio

NOTE = "note://1"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


def edition(number: int) -> dict[str, Any]:
    return {"contents": [{"uri": NOTE, "text": f"edition {number}"}], "ttlMs": 60_000, "cacheScope": "private"}


SLOWLY: list[list[Any]] = [[Pause(2), edition(number)] for number in (1, 2, 3)]


async def read(host: Host) -> str:
    result = await host.dispatch(make_call("resources/read", {"uri": NOTE}))
    return str(result["contents"][0]["text"])


@pytest.mark.parametrize("with_cache", [True, False])
async def test_who_reads_after_a_change_gets_the_change(virtual_clock: VirtualClock, *, with_cache: bool) -> None:
    """A read that began before a change is not joined after it, and what it brings is not kept."""
    notes = ScriptedProvider("notes", resources=[NOTE])
    notes.script(NOTE, *SLOWLY)
    plugins: list[MCPPlugin[Any]] = [DedupPlugin(DedupConfig(window=60), name="dedup")]
    if with_cache:
        plugins.append(CachePlugin(CacheConfig(), name="cache"))
    async with make_host(*plugins, providers=[notes], clock=virtual_clock) as host:
        before = asyncio.create_task(read(host))
        await anyio.sleep(1)
        notes.change(Kind.RESOURCES, [{"uri": NOTE, "name": "note", "description": "changed"}])
        await anyio.sleep(0.5)
        after = asyncio.create_task(read(host))
        assert (await before, await after) == ("edition 1", "edition 2")
        assert await read(host) == "edition 2"


async def test_who_reads_after_an_update_gets_the_update(client: ClientFactory, host: HostFactory) -> None:
    """So it is where clients watch a resource and are told of it."""
    notes = ScriptedProvider("notes", resources=[NOTE])
    running = await host(
        DedupPlugin(DedupConfig(window=60), name="dedup"), CachePlugin(CacheConfig(), name="cache"), providers=[notes]
    )
    watcher = await client(running)
    async with watching(watcher, legacy=client.mode == "legacy"):
        await anyio.sleep(0.5)
        notes.script(NOTE, *SLOWLY)
        before = asyncio.create_task(read(running))
        await anyio.sleep(1)
        notes.touch(NOTE)
        await anyio.sleep(0.5)
        after = asyncio.create_task(read(running))
        assert (await before, await after) == ("edition 1", "edition 2")
        assert await read(running) == "edition 2"


@asynccontextmanager
async def watching(watcher: Client, *, legacy: bool) -> AsyncIterator[None]:
    """A client that wants to be told of changes of the note."""
    if legacy:
        with pytest.warns(MCPDeprecationWarning):
            await watcher.session.subscribe_resource(NOTE)
        yield
    else:
        async with watcher.listen(resource_subscriptions=[NOTE]):
            yield
