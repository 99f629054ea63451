"""Resource pools for plugins of Plughost: bounded, fair, validated, with limits on idle time and lifetime.

    class SearchPlugin(MCPPlugin):
        requires = (ResourcePools,)

        async def register(self, host):
            self._pool = host.get(ResourcePools).create("search", open_connection, check=Connection.ping)

        async def unregister(self):
            await self._pool.aclose()

The algorithm is in `_stock.py`, the event loop's part in `_pool.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from plughost import Duration, MCPPlugin, Operation, PluginConfig, PoolLimits, ResourcePools, hookimpl
from pydantic import BaseModel, Field

from plughost_pool._errors import PoolClosedError, PoolError, PoolFullError, PoolTimeoutError
from plughost_pool._metrics import meter
from plughost_pool._pool import Pool, leaves_in_doubt
from plughost_pool._stock import Limits

if TYPE_CHECKING:
    from plughost import Host

__all__ = [
    "Limits",
    "Pool",
    "PoolClosedError",
    "PoolConfig",
    "PoolError",
    "PoolFullError",
    "PoolPlugin",
    "PoolTable",
    "PoolTimeoutError",
    "leaves_in_doubt",
]

T = TypeVar("T")


class PoolTable(PluginConfig):
    """Limits of a pool. Those set under its name go before what its plugin asks for."""

    min_size: int = Field(default=0, ge=0)
    """Resources kept open, also while nobody needs them; never more than `max_size`."""
    max_size: int = Field(default=10, gt=0)
    """Resources open at once."""
    max_waiting: int = Field(default=1000, gt=0)
    """Borrowers that may wait, also for one that is being opened; more are refused at once."""
    timeout: Duration = 10.0
    """How long a borrower waits."""
    max_idle: Duration = Field(default=600.0, gt=0)
    """How long a resource may lie idle before it is closed, unless `min_size` keeps it."""
    max_lifetime: Duration = Field(default=3600.0, gt=0)
    """How old a resource may get, less up to a tenth at random; one in use is closed when it is given back."""
    check_after: Duration = 30.0
    """How long a resource may lie idle before it is checked when borrowed."""
    leak_after: Duration = Field(default=300.0, gt=0)
    """How long a resource may be in use before a warning tells where it was borrowed."""
    io_timeout: Duration = Field(default=10.0, gt=0)
    """How long opening, checking or closing one resource may take, each."""
    close_timeout: Duration = 10.0
    """How long closing the pool waits for resources in use."""


class PoolConfig(PoolTable):
    """The keys of `[plugins.pool]`: defaults for all pools."""

    pools: dict[str, PoolTable] = Field(default_factory=dict)
    """Pool → its own limits, which go before all others."""

    def limits(self, name: str, asked: PoolLimits) -> Limits:
        """The limits of a pool: the operator's for this name, else the plugin's own, else the defaults."""
        named = self.pools[name].model_dump(exclude_unset=True) if name in self.pools else {}
        table = PoolTable.model_validate({**self.model_dump(exclude={"pools"}), **asked, **named})
        return Limits(**table.model_dump())


class ClearParameters(BaseModel):
    """What `clear` takes."""

    name: str | None = None
    """Pool; all, if absent."""


class PoolPlugin(MCPPlugin[PoolConfig]):
    """Shares `ResourcePools`. A plugin that forgets to close its pools has them closed when this one goes."""

    provides = (ResourcePools,)

    def __init__(self, config: PoolConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self._pools: dict[Pool[Any], PoolLimits] = {}

    async def register(self, host: Host) -> None:
        self._clock = host.clock
        host.provide(ResourcePools, self)  # type: ignore[type-abstract]  # shared under its protocol

    async def unregister(self) -> None:
        await asyncio.gather(*(pool.aclose() for pool in self._pools))

    async def reconfigure(self, config: PoolConfig) -> bool:
        """Change the limits of all pools in place."""
        for pool, asked in self._pools.items():
            pool.limit(config.limits(pool.name, asked))
        return True

    def create(
        self,
        name: str,
        factory: Callable[[], AbstractAsyncContextManager[T]],
        *,
        check: Callable[[T], Awaitable[object]] | None = None,
        breaks: Callable[[BaseException], bool] | None = None,
        **limits: Unpack[PoolLimits],
    ) -> Pool[T]:
        """A pool for another plugin, as `ResourcePools` says. It begins at once to open its minimum.

        Raises:
            pydantic.ValidationError: A limit makes no sense.
        """
        bounds = self.config.limits(name, limits)
        pool = Pool(name, factory, bounds, clock=self._clock, check=check, breaks=breaks, on_closed=self._forget)
        self._pools[pool] = limits
        meter.watch(pool)
        pool.start()
        return pool

    def _forget(self, pool: Pool[Any]) -> None:
        self._pools.pop(pool, None)
        meter.unwatch(pool)

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        clear = "Close what is idle now, and what is in use when it is given back"
        return [
            Operation("show", self.show, summary="Each pool: in use, idle, waiting, and who borrows longest"),
            Operation("clear", self.clear, parameters=ClearParameters, changes=True, summary=clear),
        ]

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """All pools, and the names in the config that no pool has."""
        del parameters
        names = {pool.name for pool in self._pools}
        return {"pools": [pool.show() for pool in self._pools], "unused": sorted(self.config.pools.keys() - names)}

    async def clear(self, parameters: ClearParameters) -> Mapping[str, Any]:
        """Replace all resources of one pool, or of all."""
        names = {pool.name for pool in self._pools}
        if parameters.name is not None and parameters.name not in names:
            raise ValueError(f"there is no pool {parameters.name!r}; there are: {', '.join(sorted(names)) or 'none'}")
        chosen = [pool for pool in self._pools if parameters.name in {None, pool.name}]
        return {"closed": sum(pool.stock.clear() for pool in chosen)}
