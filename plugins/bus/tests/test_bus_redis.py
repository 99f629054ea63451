"""Hosts that tell each other over a real Redis, which is killed, frozen and started again. Time is real here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from mcp import Client, MCPDeprecationWarning
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import ResourceUpdatedNotification, ToolListChangedNotification
from plughost import EventType, Host, HostEvent, Kind, PluginError, ResourceChanged
from plughost_bus import BusConfig, BusPlugin
from plughost_bus._deliveries import Deliveries
from plughost_testing import Backend, HostFactory, RecordingMiddleware, ScriptedProvider, on_backends
from plughost_testing.services import Service

pytestmark = [pytest.mark.anyio, on_backends("redis")]

NOTE, OTHER = "note://1", "note://2"
SOON = 1.0
"""Seconds within which another replica has heard."""


class Replica:
    """A host with the plugin, and a provider of its own."""

    def __init__(self, host: Host, plugin: BusPlugin, provider: ScriptedProvider) -> None:
        self.host = host
        self.plugin = plugin
        self.provider = provider


Start = Callable[..., Awaitable[Replica]]


@pytest.fixture
def replica(host: HostFactory, backend: Backend) -> Start:
    async def start(*others: Any, **keys: Any) -> Replica:
        plugin = BusPlugin(BusConfig.model_validate({"url": backend.url, **keys}), name="bus")
        provider = ScriptedProvider("notes", tools=["add"], resources=[NOTE, OTHER])
        return Replica(await host(plugin, *others, providers=[provider]), plugin, provider)

    return start


def server(backend: Backend) -> Service:
    assert backend.service is not None
    return backend.service


async def hears(events: AsyncIterator[ServerEvent], wanted: ServerEvent) -> None:
    """Read until the event comes; a replica that has just started tells of its lists too."""
    with anyio.fail_after(SOON):
        while await anext(events) != wanted:
            pass


async def eventually(condition: Callable[[], object], limit: float = 10) -> None:
    with anyio.fail_after(limit):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)


async def test_a_listener_hears_at_once(replica: Start) -> None:
    """A 2026-07-28 client that listens on one replica hears a change on another; no wait in between is needed."""
    one, two = await replica(), await replica()
    async with (
        Client(one.host.front) as client,
        client.listen(tools_list_changed=True, resource_subscriptions=[NOTE]) as news,
    ):
        events = aiter(news)
        two.provider.touch(NOTE)
        two.provider.touch(OTHER)
        await hears(events, ResourceUpdated(NOTE))
        two.provider.change(Kind.TOOLS, ["add", "remove"])
        await hears(events, ToolsListChanged())


async def test_a_session_hears_too(replica: Start) -> None:
    """So does a session of an earlier revision, and it is not told what it did not subscribe to."""
    one, two = await replica(), await replica()
    told: list[Any] = []

    async def listen(message: Any) -> None:
        told.append(message)

    def uris() -> list[str]:
        return [message.params.uri for message in told if isinstance(message, ResourceUpdatedNotification)]

    async with Client(one.host.front, mode="legacy", message_handler=listen) as client:
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource(NOTE)
        two.provider.touch(OTHER)
        two.provider.touch(NOTE)
        await eventually(uris, SOON)
        assert uris() == [NOTE]
        two.provider.change(Kind.TOOLS, ["add", "remove"])
        await eventually(lambda: any(isinstance(message, ToolListChangedNotification) for message in told), SOON)
        assert OTHER not in uris()


async def test_what_nobody_watches_is_not_told(replica: Start) -> None:
    """A change of a resource that no client watches, here or elsewhere, is not published: nobody sees its URI."""
    one, two = await replica(), await replica()
    sent: list[bytes] = []
    backend = one.plugin.bus.backend
    assert backend is not None
    backend.subscribe(backend.key("replicas"), sent.append, lambda: None)
    two.host._heard(two.provider, ResourceChanged("note://of-another-tenant"))
    async with Client(one.host.front) as client, client.listen(resource_subscriptions=[NOTE]) as news:
        two.provider.touch(NOTE)
        await hears(aiter(news), ResourceUpdated(NOTE))
        await eventually(lambda: NOTE.encode() in b"".join(sent))
    assert b"of-another-tenant" not in b"".join(sent)


async def test_a_start_is_a_change(replica: Start) -> None:
    """When a replica starts, perhaps with another version of a server, clients of the others look at the lists anew."""
    one = await replica()
    async with Client(one.host.front) as client, client.listen(tools_list_changed=True) as news:
        await replica()
        await hears(aiter(news), ToolsListChanged())


async def test_redis_restarts(replica: Start, backend: Backend) -> None:
    """Without Redis a replica tells its own clients; when it is back all are told to look again, and it goes on."""
    one, two = await replica(), await replica()
    async with (
        Client(one.host.front) as client,
        client.listen(
            tools_list_changed=True,
            prompts_list_changed=True,
            resources_list_changed=True,
            resource_subscriptions=[NOTE],
        ) as news,
    ):
        events = aiter(news)
        server(backend).kill()
        two.provider.change(Kind.TOOLS, ["changed while Redis was away"])
        one.provider.touch(NOTE)
        await hears(events, ResourceUpdated(NOTE))
        await eventually(lambda: not two.plugin.bus.backend.up)  # type: ignore[union-attr]
        server(backend).start()
        seen: set[ServerEvent] = set()
        everything = {ToolsListChanged(), PromptsListChanged(), ResourcesListChanged(), ResourceUpdated(NOTE)}
        with anyio.fail_after(10):
            while seen != everything:
                seen.add(await anext(events))
        await eventually(lambda: one.plugin.bus.counts.resyncs and two.plugin.bus.counts.resyncs)
        await eventually(lambda: NOTE in two.provider.watched)
        await eventually(lambda: one.plugin.bus.unsent == two.plugin.bus.unsent == 0)
        await asyncio.sleep(0.3)  # what was on its way has arrived
        one.plugin.bus.counts.received = 0
        two.provider.touch(NOTE)
        await eventually(lambda: one.plugin.bus.counts.received, SOON)


async def test_a_start_without_redis(replica: Start, backend: Backend) -> None:
    """A host starts without Redis, degraded, and joins when it comes."""
    server(backend).kill()
    one = await replica()
    [check] = [check for name, check in one.host.health_checks if name == "bus"]
    with pytest.raises(Exception, match="unavailable"):
        await check.check()
    server(backend).start()
    two = await replica()
    await eventually(lambda: one.plugin.bus.peers and two.plugin.bus.peers)
    await check.check()
    assert list(one.plugin.bus.peers) == [two.plugin.bus.replica]


async def test_a_frozen_redis_holds_up_nobody(replica: Start, backend: Backend) -> None:
    """A Redis that hangs delays a new listener by its time limit at most, and a change here not at all."""
    one, _ = await replica(), await replica()
    server(backend).freeze()
    try:
        began = time.monotonic()
        async with Client(one.host.front) as client, client.listen(resource_subscriptions=[NOTE]) as news:
            one.provider.touch(NOTE)
            assert await anext(aiter(news)) == ResourceUpdated(NOTE)
        assert time.monotonic() - began < 5
    finally:
        server(backend).thaw()


async def test_events_cross_where_the_operator_says_so(replica: Start) -> None:
    """Host events that `relay` names reach plugins of the other replicas, marked as theirs; others stay at home."""
    recorder = RecordingMiddleware()
    one, two = await replica(relay=["breaker.*"]), await replica(recorder)
    one.host.publish(HostEvent(EventType.BREAKER_CLOSED, "search"))
    one.host.publish(HostEvent(EventType.BACKEND_UP, "search"))
    one.host.publish(HostEvent(EventType.BREAKER_OPENED, "search", {"reason": "lost"}))
    await eventually(lambda: len(_of_replicas(recorder)) == 2, SOON)
    replica_id = one.plugin.bus.replica
    assert _of_replicas(recorder) == [
        HostEvent("replica.breaker.closed", "search", {"replica": replica_id}),
        HostEvent("replica.breaker.opened", "search", {"reason": "lost", "replica": replica_id}),
    ]
    assert two.plugin.bus.unsent == 0


def _of_replicas(recorder: RecordingMiddleware) -> list[HostEvent]:
    return [event for event in recorder.events if event.type.startswith("replica.")]


async def test_who_leaves_is_gone(replica: Start) -> None:
    """A replica whose plugin is taken out watches nothing any more; `show` lists the others."""
    one, two = await replica(), await replica()
    await eventually(lambda: one.plugin.bus.peers and two.plugin.bus.peers, SOON)
    async with Client(one.host.front) as client, client.listen(resource_subscriptions=[NOTE]):
        shown = await two.host.run_operation("bus", "show")
        [(name, peer)] = shown["peers"].items()
        assert (name, peer["watches"], shown["up"]) == (one.plugin.bus.replica, 1, True)
        assert two.provider.watched == {NOTE}
        await one.host.unregister("bus")
        await eventually(lambda: not two.provider.watched, SOON)
        assert two.plugin.bus.peers == {}


async def test_a_start_that_fails_leaves_nothing(
    host: HostFactory, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a start took before it failed is given back: neither task nor connection is left."""

    async def fails(*_: object) -> None:
        raise OSError("no certificates")

    monkeypatch.setattr(Deliveries, "apply", fails)
    running = await host()
    before = asyncio.all_tasks()
    with pytest.raises(PluginError, match="no certificates"):
        await running.register(BusPlugin(BusConfig.model_validate({"url": backend.url}), name="bus"))
    assert asyncio.all_tasks() == before
