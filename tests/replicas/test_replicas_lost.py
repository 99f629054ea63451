"""A replica is killed, or stopped, while clients call through nginx: what is lost, and how clients go on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import anyio
import psutil
import pytest
from anyio.to_thread import run_sync
from mcp import Client, MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.subscriptions import ResourceUpdated
from plughost_testing.services import HostProcess

from replicas.cluster import Cluster

pytestmark = [pytest.mark.services, pytest.mark.anyio]

NOTE = "note://1"
CALLERS = 6
HELD = 0.1
"""Seconds that a call takes."""


@pytest.fixture
def cluster(cluster: Cluster) -> Iterator[Cluster]:
    """Replicas that a test may harm: they are mended afterwards."""
    yield cluster
    cluster.mend()


@dataclass
class Load:
    """Calls that were made: when each began that was answered, and by whom; and when each that was lost."""

    answered: list[tuple[float, int]] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    enough: bool = False

    async def caller(self, client: Client) -> None:
        """Call again and again; a call that is lost is not repeated."""
        while not self.enough:
            began = time.monotonic()
            try:
                result = await client.call_tool("slow", {"seconds": HELD})
            except MCPError:
                self.lost.append(began)
            else:
                assert result.structured_content is not None, result
                self.answered.append((began, result.structured_content["result"]))

    def by_whom(self, since: float) -> set[int]:
        """Who answered calls that began after a moment: answers to earlier ones may still have been on their way."""
        return {pid for began, pid in self.answered if began > since}


async def under_load(cluster: Cluster, happens: Callable[[], Awaitable[object]]) -> tuple[Load, float]:
    """What became of calls while something happened, and when it had."""
    load = Load()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(cluster.url, cache=None)) for _ in range(CALLERS)]
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(load.caller, client)
            await anyio.sleep(0.5)
            await happens()
            happened = time.monotonic()
            await anyio.sleep(1)
            load.enough = True
    return load, happened


async def test_a_kill_loses_only_what_it_was_doing(cluster: Cluster) -> None:
    """Calls inside a killed replica are lost, with an error; all that come later are answered by the others."""

    async def kill() -> None:
        cluster.hosts[0].kill()

    gone = cluster.pids
    load, happened = await under_load(cluster, kill)
    assert len(load.lost) <= CALLERS
    assert all(began < happened for began in load.lost)
    assert load.by_whom(happened) == cluster.pids
    assert len(gone - cluster.pids) == 1


async def test_a_stop_loses_nothing(cluster: Cluster) -> None:
    """A replica that is asked to stop finishes what it does; nginx sends everything else to the others."""

    async def stop() -> None:
        await run_sync(cluster.hosts[0].stop)

    load, happened = await under_load(cluster, stop)
    assert load.lost == []
    assert load.by_whom(happened) == cluster.pids


async def test_a_lost_session_is_begun_anew(cluster: Cluster) -> None:
    """The session of a killed replica answers 404, by which its client knows to begin another; the others go on."""
    async with AsyncExitStack() as stack:
        sessions = {}
        for _ in range(3):
            client = await stack.enter_async_context(Client(cluster.url, mode="legacy", cache=None))
            sessions[await where(client)] = client
        victim, *others = sessions
        await run_sync(cluster.host_of(victim).kill)
        with pytest.raises(MCPError, match=r"[Ss]ession"):
            await sessions[victim].call_tool("where", {})
        assert [await where(sessions[pid]) for pid in others] == others
        async with Client(cluster.url, mode="legacy", cache=None) as again:
            assert await where(again) in others


async def test_a_lost_listener_listens_again(cluster: Cluster) -> None:
    """A listen stream breaks with its replica, which its client sees; opened again, it leads to another one."""
    async with Client(cluster.url, cache=None) as client:
        async with client.listen(resource_subscriptions=[NOTE]) as news:
            [holder] = [host for host in cluster.hosts if connections(host)]
            await run_sync(holder.kill)
            with pytest.raises(SubscriptionLost):
                await anext(aiter(news))
        async with client.listen(resource_subscriptions=[NOTE]) as news:
            await client.call_tool("change", {})
            with anyio.fail_after(1):
                while await anext(aiter(news)) != ResourceUpdated(NOTE):
                    pass


def connections(host: HostProcess) -> int:
    """How many clients a replica has at the moment."""
    assert host.process is not None
    found = psutil.Process(host.process.pid).net_connections("tcp4")
    return sum(each.laddr.port == host.port and each.status == psutil.CONN_ESTABLISHED for each in found)


async def where(client: Client) -> int:
    result = await client.call_tool("where", {})
    assert result.structured_content is not None
    pid: int = result.structured_content["result"]
    return pid
