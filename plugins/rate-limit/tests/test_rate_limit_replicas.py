"""Real host processes on one real Redis: what all of them let through together, and when it is away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest
from mcp import MCPError
from plughost import ErrorCode, EventType
from plughost_rate_limit import RateLimitConfig, RateLimitPlugin
from plughost_redis import BackendUnavailable
from plughost_testing import Backend, HostFactory, RecordingMiddleware, ScriptedProvider, make_call, on_backends
from plughost_testing.services import HostProcess, Service, Stack

pytestmark = [pytest.mark.anyio, pytest.mark.services]

SERVER = """
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")

@mcp.tool()
async def add() -> str:
    return "added"
"""
BODY = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "add",
        "arguments": {},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}
HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "add",
}
PASSED, LIMITED, UNDECIDED = 0, int(ErrorCode.RATE_LIMIT_EXCEEDED), int(ErrorCode.UPSTREAM_UNAVAILABLE)
SLOWEST = 1.5
"""Seconds: a time limit of 300 ms, and what a busy machine adds."""


def gateway(url: str, **config: Any) -> HostProcess:
    providers = {"notes": {"python": "notes_server:mcp"}}
    plugins = {"rate-limit": {"url": url, **config}}
    return HostProcess({"providers": providers, "plugins": plugins}, files={"notes_server.py": SERVER})


@asynccontextmanager
async def started(stack: Stack, *hosts: HostProcess) -> AsyncIterator[httpx2.AsyncClient]:
    """The hosts, started at the same time, and somebody to call them."""
    await asyncio.gather(*(asyncio.to_thread(stack.start, host) for host in hosts))
    async with httpx2.AsyncClient(timeout=10, limits=httpx2.Limits(max_connections=100)) as client:
        yield client


async def call(client: httpx2.AsyncClient, host: HostProcess) -> int:
    """How a call ends: 0, or the code of its error."""
    answer = (await client.post(host.url, json=BODY, headers=HEADERS)).json()
    code: int = answer["error"]["code"] if "error" in answer else PASSED
    return code


@on_backends("redis")
async def test_four_replicas_admit_the_limit(backend: Backend, stack: Stack) -> None:
    """B13: four hosts at once let through exactly what one would, not one call more."""
    hosts = [gateway(f"{backend.url}?timeout=5", limit=["150/hour", "1000/day"]) for _ in range(4)]
    async with started(stack, *hosts) as client:
        ends = Counter(await asyncio.gather(*(call(client, host) for _ in range(75) for host in hosts)))
    assert ends == {PASSED: 150, LIMITED: 150}


@dataclass
class Load:
    """Calls one after the other, several at once, and how they end."""

    client: httpx2.AsyncClient
    host: HostProcess
    ends: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    running: bool = True

    async def run(self) -> None:
        while self.running:
            begin = time.monotonic()
            self.ends[await call(self.client, self.host)] += 1
            self.slowest = max(self.slowest, time.monotonic() - begin)
            await asyncio.sleep(0.005)

    def since(self) -> Counter[int]:
        """How calls ended since this was last asked."""
        ends, self.ends = self.ends, Counter()
        return ends


async def eventually(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(15):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)


@pytest.mark.alone
@on_backends("redis")
async def test_server_killed_and_frozen_under_load(backend: Backend, stack: Stack) -> None:
    """Each call is answered, in bounded time, as `fail_mode` says, while the server is away; afterwards as before."""
    redis = backend.service
    assert redis is not None
    url = f"{backend.url}?timeout=0.3"
    closed, open_ = gateway(url, limit="100000/day"), gateway(url, limit="100000/day", fail_mode="open")
    async with started(stack, closed, open_) as client, anyio.create_task_group() as tasks:
        refusing, passing = loads = Load(client, closed), Load(client, open_)
        for load in loads * 4:
            tasks.start_soon(load.run)
        await eventually(lambda: min(sum(load.ends.values()) for load in loads) > 20)
        for harm, mend in ((redis.kill, redis.start), (redis.freeze, redis.thaw)):
            assert set(refusing.since()) | set(passing.since()) == {PASSED}
            await asyncio.to_thread(harm)
            await eventually(lambda: refusing.ends[UNDECIDED] > 0)
            refusing.since()
            await asyncio.sleep(0.3)
            assert set(refusing.since()) == {UNDECIDED}
            await asyncio.to_thread(mend)
            await eventually(lambda: refusing.ends[PASSED] > 0)
            await eventually(lambda: refusing.since()[UNDECIDED] == 0)
        for load in loads:
            load.running = False
    assert set(passing.since()) == {PASSED}, "who fails open refuses nobody"
    assert max(load.slowest for load in loads) < SLOWEST


@on_backends("redis")
@pytest.mark.parametrize("harm", ["kill", "freeze"])
async def test_health_while_the_server_is_away(harm: str, backend: Backend, host: HostFactory) -> None:
    """G1: the check fails while the server is away and passes when it is back; both are told, and counts are kept."""
    watch = RecordingMiddleware(name="watch")
    plugin = RateLimitPlugin(RateLimitConfig.model_validate({"url": backend.url, "limit": "2/hour"}), name="limit")
    running = await host(plugin, watch, providers=[ScriptedProvider("notes", tools=["add"])])
    ((_, check),) = running.health_checks
    await running.dispatch(make_call("tools/call", {"name": "add"}))
    await check.check()
    assert not check.critical
    redis: Service | None = backend.service
    assert redis is not None
    await asyncio.to_thread(getattr(redis, harm))
    with pytest.raises(BackendUnavailable):
        await check.check()
    with pytest.raises(MCPError, match="cannot be checked"):
        await running.dispatch(make_call("tools/call", {"name": "add"}))
    assert (await plugin.show())["available"] is False
    await asyncio.to_thread(redis.start if harm == "kill" else redis.thaw)
    await eventually(lambda: plugin._backend is not None and plugin._backend.up)
    await check.check()
    await running.dispatch(make_call("tools/call", {"name": "add"}))
    with pytest.raises(MCPError, match="2/hour is used up"):
        await running.dispatch(make_call("tools/call", {"name": "add"}))
    told = [event.type for event in watch.events if event.type in {EventType.BACKEND_DOWN, EventType.BACKEND_UP}]
    assert told == [EventType.BACKEND_DOWN, EventType.BACKEND_UP]
