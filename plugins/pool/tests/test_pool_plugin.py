"""The plugin in a host, used by another one; and what both owe to the host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from meters import collecting
from plughost import (
    Call,
    CallNext,
    Middleware,
    Phase,
    PlughostError,
    PoolLimits,
    ResourcePool,
    ResourcePools,
    Result,
    hookimpl,
)
from plughost import Host as RunningHost
from plughost import MCPPlugin as Plugin
from plughost_pool import PoolConfig, PoolPlugin
from plughost_pool._metrics import meter
from plughost_testing import HostFactory, PluginContract, ScriptedProvider, VirtualClock, make_call

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Token:
    """What is pooled here."""


@asynccontextmanager
async def token() -> AsyncIterator[Token]:
    await anyio.sleep(0.5)
    yield Token()


class Borrower(Plugin):
    """Needs a token for each call, as a plugin with a database would."""

    requires = (ResourcePools,)
    limits: PoolLimits = {"max_size": 3, "min_size": 1}
    factory = staticmethod(token)
    breaks: Callable[[BaseException], bool] | None = None
    forgetful = False

    async def register(self, host: RunningHost) -> None:
        pools = host.get(ResourcePools)  # type: ignore[type-abstract]  # had by its protocol
        self.pool: ResourcePool[Token] = pools.create("tokens", self.factory, breaks=self.breaks, **self.limits)

    async def unregister(self) -> None:
        if not self.forgetful:
            await self.pool.aclose()

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.borrow, Phase.GUARD, methods={"tools/call"})]

    async def borrow(self, call: Call, call_next: CallNext) -> Result:
        async with self.pool.acquire(timeout=1000):
            return await call_next(call)


class TestPool(PluginContract):
    plugin_class = PoolPlugin
    has_middleware = False
    handles = ()
    fails = None
    invalid = {"max_size": [0], "pools": [{"db": {"max_sise": 3}}]}
    other_config = {"max_size": 3}
    keeps_state = True

    def state_of(self, plugin: Plugin[Any]) -> object:
        assert isinstance(plugin, PoolPlugin)
        return [*plugin._pools]


@asynccontextmanager
async def ready() -> AsyncIterator[Token]:
    yield Token()


class Ready(Borrower):
    """Its tokens are there before the first call, and no call breaks one: cancelled calls begin nothing new."""

    limits: PoolLimits = {"max_size": 3, "min_size": 3}
    factory = staticmethod(ready)
    breaks = staticmethod(lambda _: False)


class TestBorrower(PluginContract):
    """A plugin that uses a pool keeps the contract: no leak in 100 registrations, no harm from cancelled calls."""

    plugin_class = Ready
    fails = None

    def needs(self) -> Sequence[Plugin[Any]]:
        return [PoolPlugin(name="pool")]


def shown(host: RunningHost) -> Any:
    return host.run_operation("pool", "show")


async def call(host: RunningHost) -> Result:
    return await host.dispatch(make_call("tools/call", {"name": "echo"}))


async def test_operator_has_the_last_word(host: HostFactory) -> None:
    """Limits by the pool's name go before what its plugin asks for, and that before the defaults."""
    config = PoolConfig.model_validate({"max_idle": "1m", "min_size": 2, "pools": {"tokens": {"max_size": 7}}})
    running = await host(PoolPlugin(config, name="pool"), Borrower(name="borrower"))
    pool = running.instances["borrower"].plugin
    assert isinstance(pool, Borrower)
    limits = pool.pool.stock.limits  # type: ignore[attr-defined]  # no part of the protocol
    assert (limits.max_size, limits.min_size, limits.max_idle, limits.max_lifetime) == (7, 1, 60, 3600)


async def test_nonsense_is_refused(host: HostFactory) -> None:
    """A plugin that asks for an impossible limit is told when it creates the pool."""
    borrower = Borrower(name="borrower")
    borrower.limits = {"max_size": 0}
    with pytest.raises(PlughostError, match="max_size"):
        await host(PoolPlugin(name="pool"), borrower)


async def test_reconfigured_in_place(host: HostFactory) -> None:
    """New limits reach pools that exist, and close nothing that fits."""
    plugin = PoolPlugin(name="pool")
    running = await host(plugin, Borrower(name="borrower"), providers=[ScriptedProvider("p", tools=["echo"])])
    await call(running)
    assert await plugin.reconfigure(PoolConfig.model_validate({"pools": {"tokens": {"max_size": 1}}}))
    (pool,) = (await shown(running))["pools"]
    assert (pool["max_size"], pool["size"], pool["idle"]) == (1, 1, 1)


async def test_show_and_clear(host: HostFactory) -> None:
    """`show` tells of each pool and of names that fit none; `clear` replaces what is open."""
    config = PoolConfig.model_validate({"pools": {"tokns": {"max_size": 1}}})
    running = await host(
        PoolPlugin(config, name="pool"), Borrower(name="borrower"), providers=[ScriptedProvider("p", tools=["echo"])]
    )
    await call(running)
    told = await shown(running)
    assert told["unused"] == ["tokns"]
    assert told["pools"] == [
        {
            "name": "tokens",
            "size": 1,
            "max_size": 3,
            "opening": 0,
            "idle": 1,
            "checking": 0,
            "in_use": 0,
            "closing": 0,
            "waiting": 0,
            "longest": [],
        }
    ]
    assert await running.run_operation("pool", "clear", {"name": "tokens"}) == {"closed": 1}
    await anyio.sleep(1)
    assert await running.run_operation("pool", "clear") == {"closed": 1}, "the minimum was opened anew"
    with pytest.raises(Exception, match="there is no pool 'tokns'; there are: tokens"):
        await running.run_operation("pool", "clear", {"name": "tokns"})


async def test_forgotten_pool_is_closed(host: HostFactory, no_leaks: None) -> None:
    """A pool that its plugin does not close is closed when the pool plugin goes."""
    borrower = Borrower(name="borrower")
    borrower.forgetful = True
    running = await host(PoolPlugin(name="pool"), borrower)
    await anyio.sleep(1)
    await running.unregister("borrower")
    assert len((await shown(running))["pools"]) == 1
    await running.unregister("pool")


async def test_many_calls_few_resources(host: HostFactory) -> None:
    """Calls beyond the maximum wait for their turn, and all are served."""
    running = await host(
        PoolPlugin(name="pool"), Borrower(name="borrower"), providers=[ScriptedProvider("p", tools=["echo"])]
    )
    assert len(await asyncio.gather(*(call(running) for _ in range(50)))) == 50
    (pool,) = (await shown(running))["pools"]
    assert (pool["size"], pool["in_use"]) == (3, 0)


async def test_metrics(host: HostFactory) -> None:
    """They tell resources by pool and state, and who waits."""
    with collecting(meter) as collector:
        running = await host(PoolPlugin(name="pool"), Borrower(name="borrower"))
        await anyio.sleep(1)
        assert collector.points() == {
            "plughost.pool.resources": {"pool.name=tokens pool.state=idle": 1, "pool.name=tokens pool.state=in use": 0},
            "plughost.pool.waiting": {"pool.name=tokens": 0},
        }
        await running.unregister("borrower")
        assert collector.points() == {}


async def test_quiet_when_well(host: HostFactory, caplog: pytest.LogCaptureFixture) -> None:
    """A pool that works writes nothing at the usual level."""
    caplog.set_level(logging.INFO)
    running = await host(
        PoolPlugin(name="pool"), Borrower(name="borrower"), providers=[ScriptedProvider("p", tools=["echo"])]
    )
    await call(running)
    assert [record for record in caplog.records if record.name == "plughost.pool"] == []
