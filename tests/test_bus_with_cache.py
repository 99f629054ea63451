"""A change on one replica reaches the cache of another, which need not share its entries."""

from __future__ import annotations

import pytest
from mcp import Client
from mcp.shared.subscriptions import ResourceUpdated
from plughost_bus import BusConfig, BusPlugin
from plughost_cache import CacheConfig, CachePlugin
from plughost_testing import Backend, HostFactory, ScriptedProvider, make_call, on_backends

pytestmark = [pytest.mark.anyio, on_backends("redis")]

NOTE = "note://1"


async def test_caches_of_other_replicas_forget(host: HostFactory, backend: Backend) -> None:
    """A resource that a client watches here, and that changed on another replica, is read anew."""
    here, there = (ScriptedProvider("notes", resources=[NOTE]) for _ in range(2))
    bus = BusConfig.model_validate({"url": backend.url})
    cache = CachePlugin(CacheConfig.model_validate({"default_ttl": "10m"}), name="cache")
    one = await host(BusPlugin(bus, name="bus"), cache, providers=[here])
    await host(BusPlugin(bus, name="bus"), providers=[there])

    async def read() -> int:
        """How often the provider was asked by now."""
        await one.dispatch(make_call("resources/read", {"uri": NOTE}))
        return len([call for call in here.calls if call.method == "resources/read"])

    async with Client(one.front) as client, client.listen(resource_subscriptions=[NOTE]) as news:
        assert [await read(), await read()] == [1, 1]
        there.touch(NOTE)
        async for event in news:
            if event == ResourceUpdated(NOTE):
                break
        assert await read() == 2
