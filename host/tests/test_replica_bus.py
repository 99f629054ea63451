"""Changes that begin on another host: what the host does with the bus that a plugin shares."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from doubles import StubProvider, tool
from mcp import Client
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent, ToolsListChanged
from plughost import Host, Kind, ListChanged, MCPPlugin, ReplicaBus, ResourceChanged, create_host

pytestmark = pytest.mark.anyio

NOTE = "note://1"


class CommonBus:
    """A bus of hosts in one process."""

    def __init__(self) -> None:
        self.events = InMemorySubscriptionBus()
        self.watching: dict[object, frozenset[str]] = {}


class BusPlugin(MCPPlugin):
    """A host's place on it."""

    provides = (ReplicaBus,)

    def __init__(self, common: CommonBus) -> None:
        super().__init__(name="bus")
        self.common = common
        self.broken = False

    async def register(self, host: Host) -> None:
        host.provide(ReplicaBus, self)  # type: ignore[type-abstract]

    async def publish(self, event: ServerEvent) -> None:
        if self.broken:
            raise ConnectionError("the bus broke down")
        await self.common.events.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        return self.common.events.subscribe(listener)

    async def watch(self, uris: frozenset[str]) -> None:
        self.common.watching[self] = uris

    @property
    def watched(self) -> frozenset[str]:
        return frozenset().union(*(uris for key, uris in self.common.watching.items() if key is not self))


@asynccontextmanager
async def hosting(*plugins: BusPlugin) -> AsyncIterator[tuple[Host, StubProvider]]:
    provider = StubProvider("notes", ["add"], entries={Kind.RESOURCES: [{"uri": NOTE, "name": "one"}]})
    async with create_host({}, providers={"notes": provider}, plugins=plugins) as host:
        yield host, provider


async def test_change_elsewhere_is_heard() -> None:
    """What changes on one host is told on another, to who listens there."""
    common = CommonBus()
    async with (
        hosting(BusPlugin(common)) as (here, _),
        hosting(BusPlugin(common)) as (_, elsewhere),
        Client(here.front) as client,
        client.listen(tools_list_changed=True) as news,
    ):
        elsewhere.listener(ListChanged(Kind.TOOLS))
        with anyio.fail_after(5):
            assert await anext(aiter(news)) == ToolsListChanged()


async def test_resources_watched_elsewhere_are_watched_here() -> None:
    """A provider is asked to tell of what clients of another host watch, and no longer than they do."""
    common = CommonBus()
    async with (
        hosting(BusPlugin(common)) as (here, _),
        hosting(BusPlugin(common)) as (there, elsewhere),
        Client(here.front) as client,
    ):
        async with client.listen(resource_subscriptions=[NOTE]) as news:
            await there.subscriptions.sync()  # as a bus does that heard of it
            assert elsewhere.log[-1] == f"subscribe {NOTE}"
            elsewhere.listener(ResourceChanged(NOTE))
            with anyio.fail_after(5):
                assert await anext(aiter(news)) == ResourceUpdated(NOTE)
        with anyio.fail_after(5):
            while any(common.watching.values()):  # noqa: ASYNC110 - what is waited for is a call of a double
                await anyio.sleep(0.01)
        await there.subscriptions.sync()
        assert elsewhere.log[-1] == f"unsubscribe {NOTE}"


async def test_bus_comes_and_goes() -> None:
    """A bus that is registered late learns what is watched already; without it, changes here are still told."""
    common = CommonBus()
    async with (
        hosting() as (host, provider),
        Client(host.front) as client,
        client.listen(tools_list_changed=True, resource_subscriptions=[NOTE]) as news,
    ):
        plugin = BusPlugin(common)
        await host.register(plugin)
        with anyio.fail_after(5):
            while common.watching.get(plugin) != frozenset({NOTE}):  # noqa: ASYNC110 - what is waited for is a call of a double
                await anyio.sleep(0.01)
            await common.events.publish(ResourceUpdated(NOTE))
            assert await anext(aiter(news)) == ResourceUpdated(NOTE)
            await host.unregister("bus")
            assert not common.events._listeners
            provider.listener(ListChanged(Kind.TOOLS))
            assert await anext(aiter(news)) == ToolsListChanged()


async def test_broken_bus_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A bus that raises loses an event, says so in the log, and holds up nothing else."""
    plugin = BusPlugin(CommonBus())
    async with (
        hosting(plugin) as (host, provider),
        Client(host.front) as client,
        client.listen(tools_list_changed=True) as news,
    ):
        plugin.broken = True
        with caplog.at_level(logging.ERROR, "plughost"):
            await host.subscriptions.publish([ToolsListChanged()])
        assert "did not take ToolsListChanged()" in caplog.text
        plugin.broken = False
        provider.listener(ListChanged(Kind.TOOLS))
        with anyio.fail_after(5):
            assert await anext(aiter(news)) == ToolsListChanged()


async def test_refresh_without_announcing() -> None:
    """A host asks its providers again without telling its clients, where somebody else tells them."""
    async with (
        hosting() as (host, provider),
        Client(host.front) as client,
        client.listen(tools_list_changed=True) as news,
    ):
        provider.entries[Kind.TOOLS] = [tool("new")]
        await host.refresh({Kind.TOOLS}, announce=False)
        assert host.generation.catalog.lists("new")
        with anyio.move_on_after(0.05) as silence:
            await anext(aiter(news))
        assert silence.cancelled_caught
