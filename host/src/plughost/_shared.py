"""Things that plugins share through `host.provide` and `host.get`: protocols, and the default clock."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar, runtime_checkable

import anyio

T_co = TypeVar("T_co", covariant=True)


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
    """Authenticated encryption for what plugins store. `context` is bound into the seal and must match."""

    def seal(self, plaintext: bytes, *, context: bytes) -> bytes: ...

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes: ...


@runtime_checkable
class ResourcePool(Protocol[T_co]):
    """A bounded pool of connections or the like."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[T_co]: ...


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


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)  # last: it hides the module

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
