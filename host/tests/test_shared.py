"""The protocols of what plugins share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Self, TypeVar, Unpack

import pytest
from plughost import Clock, MCPPlugin, PoolLimits, ResourcePool, ResourcePools, create_host
from plughost._shared import SystemClock

T = TypeVar("T")


class Single:
    """The least that is a pool: one resource for all."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[str]:
        return nullcontext("shared")

    def discard(self, resource: str) -> None: ...

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None: ...


class Pools:
    """The least that pools can be had from."""

    def create(
        self,
        name: str,
        factory: Callable[[], AbstractAsyncContextManager[T]],
        *,
        check: Callable[[T], Awaitable[object]] | None = None,
        breaks: Callable[[BaseException], bool] | None = None,
        **limits: Unpack[PoolLimits],
    ) -> Any:
        return Single()


class Provider(MCPPlugin):
    provides = (ResourcePools,)

    async def register(self, host: Any) -> None:
        host.provide(ResourcePools, Pools())


class User(MCPPlugin):
    requires = (ResourcePools,)
    borrowed = ""

    async def register(self, host: Any) -> None:
        pool: ResourcePool[str] = host.get(ResourcePools).create("words", lambda: nullcontext("own"), max_size=2)
        async with pool, pool.acquire(timeout=1) as self.borrowed:
            pass


@pytest.mark.anyio
async def test_pools_are_had_from_another_plugin() -> None:
    """A plugin that requires `ResourcePools` is registered after the one that provides them, and borrows of them."""
    user = User(name="a-user")
    async with create_host(plugins=[user, Provider(name="pools")]):
        assert user.borrowed == "shared"


@pytest.mark.parametrize(
    ("value", "kind"), [(Single(), ResourcePool), (Pools(), ResourcePools), (SystemClock(), Clock)]
)
def test_protocols_are_checked_at_run_time(value: object, kind: type) -> None:
    """Each can be told from anything else."""
    assert isinstance(value, kind)
    assert not isinstance(object(), kind)
