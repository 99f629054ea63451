"""Cache and dedup together: neither brings back what the other has given up."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from plughost import Host, Kind, MCPPlugin
from plughost_cache import CacheConfig, CachePlugin
from plughost_dedup import DedupConfig, DedupPlugin
from plughost_testing import Pause, ScriptedProvider, VirtualClock, make_call, make_host

pytestmark = pytest.mark.anyio

NOTE = "note://1"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


def edition(number: int) -> dict[str, Any]:
    return {"contents": [{"uri": NOTE, "text": f"edition {number}"}], "ttlMs": 60_000, "cacheScope": "private"}


async def read(host: Host) -> str:
    result = await host.dispatch(make_call("resources/read", {"uri": NOTE}))
    return str(result["contents"][0]["text"])


@pytest.mark.parametrize("with_cache", [True, False])
async def test_who_reads_after_a_change_gets_the_change(virtual_clock: VirtualClock, *, with_cache: bool) -> None:
    """A read that began before a change is not joined after it, and what it brings is not kept."""
    notes = ScriptedProvider("notes", resources=[NOTE])
    replies: list[list[Any]] = [[Pause(2), edition(number)] for number in (1, 2, 3)]
    notes.script(NOTE, *replies)
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
