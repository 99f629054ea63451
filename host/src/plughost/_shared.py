"""Things that plugins share through `host.provide` and `host.get`: protocols, and the default clock."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, Self, TypedDict, TypeVar, Unpack, runtime_checkable

import anyio

if TYPE_CHECKING:
    from mcp.shared.subscriptions import ServerEvent

T = TypeVar("T")


@runtime_checkable
class Clock(Protocol):
    """Where all time comes from, so that tests can turn it."""

    def time(self) -> float:
        """Wall clock, in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back; deadlines are on it."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


@runtime_checkable
class SecretBox(Protocol):
    """Authenticated encryption for what plugins store; usable from any thread."""

    def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
        """Encrypt for the place that `context` names, with the keys of a tenant if the data is a tenant's.

        Raises:
            SealError: There is no key to do it with.
        """
        ...

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        """What was sealed for the same context.

        Raises:
            KeyGoneError: The key is gone, as that of a tenant whose data was erased.
            SealError: It was altered, sealed for another context, or never sealed.
        """
        ...


class PoolLimits(TypedDict, total=False):
    """What a plugin may say of a pool of its own; times in seconds. The operator has the last word."""

    min_size: int
    """Resources kept open, also while nobody needs them."""
    max_size: int
    """Resources open at once."""
    max_waiting: int
    """Borrowers that may wait."""
    timeout: float
    """How long a borrower waits, unless `acquire` says otherwise."""
    max_idle: float
    """How long a resource may lie idle before it is closed."""
    max_lifetime: float
    """How old a resource may get."""
    check_after: float
    """How long a resource may lie idle before it is checked when borrowed."""


@runtime_checkable
class ResourcePool(Protocol[T]):
    """A bounded pool of connections or the like; an async context manager that closes it."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[T]:
        """Borrow a resource for the block; whoever asked first is served first.

        Raises:
            TimeoutError: None came free in time.
        """
        ...

    def discard(self, resource: T) -> None:
        """Say of a resource that is borrowed that it is broken; it is closed when it is given back."""
        ...

    async def aclose(self) -> None:
        """Lend nothing any more, wait for what is borrowed within a limit, and close everything."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exception: object) -> None: ...


@runtime_checkable
class ResourcePools(Protocol):
    """Where plugins get pools from; shared by `plughost-pool`."""

    def create(
        self,
        name: str,
        factory: Callable[[], AbstractAsyncContextManager[T]],
        *,
        check: Callable[[T], Awaitable[object]] | None = None,
        breaks: Callable[[BaseException], bool] | None = None,
        **limits: Unpack[PoolLimits],
    ) -> ResourcePool[T]:
        """A pool of what `factory()` opens when it is entered, and closes when it is left.

        `check(resource)` raises, or returns `False`, if the resource is of no use any more. `breaks(error)` tells
        whether an exception that leaves the block of a borrower means that; unless given, cancellation and lost
        connections do. Operators know the pool by `name`, and can set its limits. It belongs to the plugin that created
        it, which closes it in `unregister()`.
        """
        ...


@runtime_checkable
class Shutdown(Protocol):
    """How a host takes leave. Without a plugin that provides it, the host listens no more and drains."""

    @property
    def drain_timeout(self) -> float:
        """Seconds that calls in flight get to finish."""
        ...

    @property
    def unregister_timeout(self) -> float:
        """Seconds that each provider and each plugin then gets to release what it holds."""
        ...

    async def leave(self, *, listening: bool) -> bool:
        """Finish what clients have begun, and take nothing new. Says whether every call was finished.

        `listening` says whether new clients can still reach the host meanwhile.
        """
        ...


@runtime_checkable
class ReplicaBus(Protocol):
    """The SDK's `SubscriptionBus` over several hosts that serve the same, and what clients of the others watch."""

    async def publish(self, event: ServerEvent) -> None:
        """Tell the listeners of this host, and those of the others."""
        ...

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Have a listener told of each event, wherever it began, until what is returned is called."""
        ...

    async def watch(self, uris: frozenset[str]) -> None:
        """Clients of this host watch these resources, and no others. Waits, a moment at most, until all hosts do."""
        ...

    @property
    def watched(self) -> frozenset[str]:
        """Resources that clients of the other hosts watch: the providers of this one are asked to tell of them."""
        ...


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)  # last: it hides the module

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
