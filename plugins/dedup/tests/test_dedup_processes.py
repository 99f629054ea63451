"""Four hosts, as operators run them, with one Redis between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from plughost_testing.services import HostProcess, Redis, Stack

pytestmark = [pytest.mark.anyio, pytest.mark.services, pytest.mark.alone]

SERVER = '''
import asyncio, os
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("slow")

@mcp.tool()
async def slow(name: str, seconds: float) -> str:
    """Write down that it ran, and where; then take a while."""
    with open({log!r}, "a") as log:
        log.write(f"{{name}} {{os.getpid()}}\\n")
    await asyncio.sleep(seconds)
    return str(os.getpid())
'''


class Fleet:
    """Four hosts and what they ran."""

    def __init__(self, redis: Redis, hosts: list[HostProcess], log: Path) -> None:
        self.redis, self.hosts, self.log = redis, hosts, log

    async def has_run(self, name: str, times: int) -> None:
        """Wait until a call was executed so often, in all."""
        async with asyncio.timeout(5):
            while len(self.ran(name)) < times:  # noqa: ASYNC110 - another process writes it down
                await asyncio.sleep(0.02)

    def ran(self, name: str) -> list[str]:
        """The processes that executed a call."""
        return [line.split()[1] for line in self.log.read_text().splitlines() if line.split()[0] == name]

    async def clients(self, stack: AsyncExitStack, hosts: list[HostProcess] | None = None) -> list[Client]:
        return [await stack.enter_async_context(Client(host.url, cache=None)) for host in hosts or self.hosts]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    log = tmp_path_factory.mktemp("fleet") / "ran"
    log.touch()
    with Stack() as stack:
        redis = stack.start(Redis())
        config = {
            "providers": {"slow": {"python": "slow_server:mcp"}},
            "plugins": {"dedup": {"tools": ["slow"], "url": redis.url, "lease": "1s"}},
        }
        files = {"slow_server.py": SERVER.format(log=str(log))}
        hosts = [HostProcess(config, files=files) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(stack.start, hosts))
        yield Fleet(redis, hosts, log)


async def call(client: Client, name: str, seconds: float) -> str:
    found: Any = await client.call_tool("slow", {"name": name, "seconds": seconds})
    return str(found.content[0].text)


async def test_each_group_runs_once_among_four_hosts(fleet: Fleet) -> None:
    """Five groups of sixteen callers, four at each host: five executions, and each caller gets that of its group."""
    async with AsyncExitStack() as stack:
        clients = await fleet.clients(stack)
        groups = [f"group{n}" for n in range(5)]
        found = await asyncio.gather(*(call(client, name, 1) for name in groups for client in clients for _ in "1234"))
    for n, name in enumerate(groups):
        assert len(fleet.ran(name)) == 1
        assert set(found[n * 16 : n * 16 + 16]) == set(fleet.ran(name))


async def test_redis_may_freeze_die_and_come_back(fleet: Fleet) -> None:
    """Under load no call is lost, and none waits for it for long."""
    slowest = 0.0

    async def load(client: Client, until: asyncio.Event) -> int:
        nonlocal slowest
        done = 0
        while not until.is_set():
            begin = time.monotonic()
            await call(client, f"load{done % 3}", 0.02)
            slowest = max(slowest, time.monotonic() - begin)
            done += 1
        return done

    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        clients = await fleet.clients(stack)
        tasks = [asyncio.ensure_future(load(client, over)) for client in clients]
        for action in (fleet.redis.freeze, fleet.redis.thaw, fleet.redis.kill, fleet.redis.start):
            await asyncio.sleep(0.6)
            await asyncio.to_thread(action)
        await asyncio.sleep(3)  # it is found again within two seconds
        over.set()
        assert min(await asyncio.gather(*tasks)) > 10
        assert slowest < 3
        found = await asyncio.gather(*(call(client, "afterwards", 0.5) for client in clients))
    assert set(found) == set(fleet.ran("afterwards"))
    assert len(fleet.ran("afterwards")) == 1


async def test_a_follower_takes_over_from_a_host_that_is_killed(fleet: Fleet) -> None:
    """When its lease has ended one other host executes the call, for all who wait."""
    leader, *others = fleet.hosts
    async with AsyncExitStack() as stack:
        clients = await fleet.clients(stack, others)

        async def doomed() -> None:
            async with Client(leader.url, cache=None) as client:
                await call(client, "orphan", 30)

        first = asyncio.ensure_future(doomed())
        await fleet.has_run("orphan", 1)
        waiting = [asyncio.ensure_future(call(client, "orphan", 30)) for client in clients]
        await asyncio.sleep(0.3)
        leader.kill()
        await fleet.has_run("orphan", 2)
        await asyncio.sleep(1)
        assert len(fleet.ran("orphan")) == 2
        for task in (first, *waiting):
            task.cancel()
        await asyncio.gather(first, *waiting, return_exceptions=True)
