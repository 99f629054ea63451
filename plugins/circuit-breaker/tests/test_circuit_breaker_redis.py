"""Replicas that tell each other over a real Redis, which is killed, frozen and started again. Time is real here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from plughost import ErrorCode, Host, Refusal
from plughost_circuit_breaker import CircuitBreakerConfig, CircuitBreakerPlugin, State
from plughost_testing import Backend, HostFactory, ScriptedProvider, make_call, on_backends, text
from plughost_testing.services import Service

pytestmark = [pytest.mark.anyio, on_backends("redis")]

TROUBLE = Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "connection lost")


class Replica:
    """A host with the plugin, and a provider of its own."""

    def __init__(self, host: Host, plugin: CircuitBreakerPlugin, provider: ScriptedProvider) -> None:
        self.host = host
        self.plugin = plugin
        self.provider = provider

    async def call(self) -> int | None:
        """The code of the error, or `None` if it went well."""
        try:
            await self.host.dispatch(make_call("tools/call", {"name": "add", "arguments": {}}))
        except MCPError as error:
            return error.code
        return None

    async def fails(self, count: int = 10) -> None:
        self.provider.script("add", TROUBLE)
        for _ in range(count):
            await self.call()

    async def order(self, operation: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.host.run_operation("circuit-breaker", operation, {"provider": "notes"})
        return found

    @property
    def state(self) -> State:
        breaker = self.plugin._board.find(("notes", None))
        return State.CLOSED if breaker is None else breaker.state

    @property
    def listens(self) -> bool:
        replicas = self.plugin._replicas
        assert replicas is not None
        return replicas.backend.up and not replicas._missed and not replicas._work.is_set()


Start = Callable[..., Awaitable[Replica]]


@pytest.fixture
def replica(host: HostFactory, backend: Backend) -> Start:
    async def start(**keys: Any) -> Replica:
        given = {"url": backend.url, "jitter": 0, "ramp": 0, **keys}
        plugin = CircuitBreakerPlugin(CircuitBreakerConfig.model_validate(given), name="circuit-breaker")
        provider = ScriptedProvider("notes", tools=["add"])
        found = Replica(await host(plugin, providers=[provider]), plugin, provider)
        await asyncio.sleep(0.05)  # until it listens
        return found

    return start


def server(backend: Backend) -> Service:
    assert backend.service is not None
    return backend.service


async def eventually(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)


async def test_others_open_too(replica: Start) -> None:
    """What one replica learned by ten failures the other knows without one, for about as long."""
    one, other = await replica(), await replica()
    await one.fails()
    await eventually(lambda: other.state is State.OPEN)
    assert await other.call() == ErrorCode.CIRCUIT_OPEN
    assert other.provider.calls == []
    shown = (await other.order("show"))["breakers"][0]
    assert 9000 < shown["changesInMs"] <= 10_000
    assert (shown["reason"], shown["trips"]) == ("another replica opened it", 0)


async def test_followers_tell_nobody(replica: Start) -> None:
    """What opens at many replicas is told by the one that it happened to."""
    one, other, third = await replica(), await replica(), await replica()
    heard: list[bytes] = []
    replicas = third.plugin._replicas
    assert replicas is not None
    replicas.backend.subscribe(replicas._channel, heard.append, lambda: None)
    await asyncio.sleep(0.05)
    await one.fails()
    await eventually(lambda: other.state is third.state is State.OPEN)
    await asyncio.sleep(0.1)
    assert len(heard) == 1


async def test_others_probe_when_one_closed(replica: Start) -> None:
    """When one replica's probes were well the others probe at once, and none trusts it blindly."""
    one, other = await replica(open="200ms"), await replica(open="60s")
    await other.fails()
    await eventually(lambda: one.state is State.OPEN)
    one.plugin._board.of_provider("notes")[0].provider_up(one.plugin._now())
    await one.call()
    await one.call()
    assert one.state is State.CLOSED
    await eventually(lambda: other.state is State.HALF_OPEN)
    other.provider.script("add", text("ok"))
    await other.call()
    await other.call()
    assert other.state is State.CLOSED


async def test_newcomer_reads_what_is_open(replica: Start) -> None:
    """A replica that starts later knows what is open, and for how long still."""
    one = await replica()
    await one.fails()
    await asyncio.sleep(0.2)
    newcomer = await replica()
    await eventually(lambda: newcomer.state is State.OPEN)
    shown = (await newcomer.order("show"))["breakers"][0]
    assert shown["changesInMs"] < 9850


async def test_replica_with_good_calls_does_not_follow(replica: Start) -> None:
    """A replica that reaches the provider well enough stays closed, whatever another one says."""
    one, other, third = await replica(), await replica(), await replica()
    for _ in range(10):
        await other.call()
    await one.fails()
    await eventually(lambda: third.state is State.OPEN)
    assert other.state is State.CLOSED
    assert await other.call() is None


async def test_nothing_old_stays_in_redis(replica: Start, backend: Backend) -> None:
    """What is closed is taken out, and what is open expires by itself."""
    one = await replica()
    replicas = one.plugin._replicas
    assert replicas is not None
    stored = replicas._stored
    await one.fails()
    await asyncio.sleep(0.1)
    assert list(await replicas.backend.run(lambda redis: redis.hkeys(stored))) == [json.dumps(["notes", None]).encode()]
    assert 0 < await replicas.backend.run(lambda redis: redis.pttl(stored)) <= 10_000
    await one.order("close")
    await asyncio.sleep(0.1)
    assert await replicas.backend.run(lambda redis: redis.exists(stored)) == 0


async def test_instances_of_other_names_are_strangers(replica: Start, host: HostFactory, backend: Backend) -> None:
    """Another instance of the plugin on the same server has breakers of its own."""
    one = await replica()
    config = CircuitBreakerConfig.model_validate({"url": backend.url})
    stranger = CircuitBreakerPlugin(config, name="search-breaker")
    await host(stranger, providers=[ScriptedProvider("notes", tools=["add"])])
    await asyncio.sleep(0.05)
    await one.fails()
    await asyncio.sleep(0.2)
    assert len(stranger._board) == 0


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
async def test_goes_on_without_redis(replica: Start, backend: Backend, trouble: str) -> None:
    """Redis killed or frozen: no call waits, each replica decides alone, health says so; later all agree again."""
    one, other = await replica(open="60s"), await replica(open="60s")
    getattr(server(backend), trouble)()
    slowest = 0.0
    for _ in range(12):
        begin = time.perf_counter()
        await one.fails(1)
        slowest = max(slowest, time.perf_counter() - begin)
        await asyncio.sleep(0)
    assert slowest < 0.1
    assert one.state is State.OPEN
    assert await other.call() is None
    (check,) = one.plugin.plughost_health_checks()
    with pytest.raises(Exception, match="unavailable"):
        await check.check()
    server(backend).restart() if trouble == "kill" else server(backend).thaw()
    await eventually(lambda: other.state is State.OPEN)
    assert await other.call() == ErrorCode.CIRCUIT_OPEN
    await eventually(lambda: one.listens)
    await check.check()


async def test_what_closed_meanwhile_stays_closed(replica: Start, backend: Backend) -> None:
    """What an operator closed while Redis was away does not open again by what is still written there."""
    one = await replica(open="60s")
    await one.fails()
    await asyncio.sleep(0.1)
    server(backend).kill()
    await one.order("close")
    await asyncio.sleep(0.1)
    server(backend).restart()
    await eventually(lambda: one.listens)
    await asyncio.sleep(0.1)
    assert one.state is State.CLOSED
    assert (await replica()).state is State.CLOSED


async def test_comes_and_goes(replica: Start) -> None:
    """Registered and unregistered many times over Redis it leaves no task and no connection."""
    one = await replica()
    for _ in range(10):
        await one.host.unregister("circuit-breaker")
        config = one.plugin.config
        await one.host.register(CircuitBreakerPlugin(config, name="circuit-breaker"))
    assert await one.call() is None
