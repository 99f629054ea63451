"""How a host takes leave: by itself, and as a plugin says."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from plughost import EventType, Host, HostEvent, MCPPlugin, PluginConfig, Shutdown, create_host, hookimpl

pytestmark = pytest.mark.anyio


class Policy(MCPPlugin[PluginConfig]):
    """Says what it was asked, and that not everything was finished."""

    provides = (Shutdown,)
    drain_timeout = 1.0
    unregister_timeout = 0.01

    def __init__(self) -> None:
        super().__init__(name="policy")
        self.asked: list[tuple[bool, bool]] = []

    async def register(self, host: Host) -> None:
        self._host = host
        host.provide(Shutdown, self)  # type: ignore[type-abstract]  # shared under its protocol

    async def leave(self, *, listening: bool) -> bool:
        self.asked.append((listening, self._host.draining))
        return False


class Watch(MCPPlugin):
    def __init__(self) -> None:
        super().__init__(name="watch")
        self.seen: list[str] = []

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        self.seen.append(event.type)


class Clinging(MCPPlugin):
    """Does not let go by itself."""

    released = False

    async def unregister(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.released = True


async def test_a_host_leaves_once() -> None:
    """It says that it drains, and once, however often it is asked to."""
    watch = Watch()
    async with create_host(plugins=[watch]) as host:
        assert not host.draining
        assert await host.leave()
        assert await host.leave(listening=True)
        await anyio.sleep(0.01)
        assert (host.draining, host.shutdown) == (True, None)
    assert watch.seen.count(EventType.HOST_DRAINING) == 1


async def test_a_plugin_decides_how_the_host_leaves() -> None:
    """It is told whether new clients can come, its word is final, and the end of the host asks for nothing more."""
    policy = Policy()
    async with create_host(plugins=[policy]) as host:
        assert await host.leave(listening=True) is False
        assert await host.leave() is False
    assert policy.asked == [(True, True)]


async def test_the_end_of_the_host_leaves_too() -> None:
    """In an application whose server has its own signals nobody asks before."""
    policy = Policy()
    async with create_host(plugins=[policy]):
        pass
    assert policy.asked == [(False, True)]


async def test_a_plugin_decides_how_long_others_may_take_to_let_go() -> None:
    """Each of them, also those that are released after that plugin."""
    one, two = Clinging(name="one"), Clinging(name="two")
    with anyio.fail_after(5):
        async with create_host(plugins=[one, Policy(), two]):
            pass
    assert (one.released, two.released) == (True, True)


async def test_a_host_that_starts_again_is_ready_again() -> None:
    host = create_host()
    draining: list[Any] = []
    for _ in range(2):
        async with host:
            draining.append(host.draining)
    assert draining == [False, False]
