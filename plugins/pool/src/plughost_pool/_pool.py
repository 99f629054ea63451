"""`Pool`: the stock in an event loop, a task for each resource, and the borrowers' side of it."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
from plughost import Clock

from plughost_pool._errors import PoolClosedError, PoolError, PoolFullError, PoolTimeoutError
from plughost_pool._metrics import failures, leaks, opened, timeouts
from plughost_pool._stock import Limits, Slot, State, Stock, Waiter, Where

T = TypeVar("T")

logger = logging.getLogger("plughost.pool")

LOST = (OSError, EOFError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
"""Exceptions after which a connection is not to be used again."""
MOST_PAUSE = 30.0
"""Seconds between two looks at what is too old, at most."""


def leaves_in_doubt(error: BaseException) -> bool:
    """Whether an exception leaves a resource in doubt: a lost connection, or a cancellation halfway through."""
    if isinstance(error, BaseExceptionGroup):
        return any(leaves_in_doubt(inner) for inner in error.exceptions)
    if isinstance(error, PoolError):
        return False  # another pool's
    return isinstance(error, LOST) or not isinstance(error, Exception)


class Lease(Generic[T]):
    """What `acquire()` returns: an async context manager, entered once."""

    __slots__ = ("_pool", "_slot", "_timeout", "_where")

    def __init__(self, pool: Pool[T], timeout: float | None, where: Where) -> None:
        self._pool = pool
        self._timeout = timeout
        self._where = where

    async def __aenter__(self) -> T:
        pool, where = self._pool, self._where
        slot = pool.stock.take(where)
        self._slot = slot if slot is not None else await pool.wait(where, self._timeout)
        return self._slot.value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._pool.breaks(error):
            self._slot.broken = True
        self._pool.stock.give_back(self._slot)  # waits for nothing, so that no cancellation comes between


class Pool(Generic[T]):
    """A pool of what `factory()` opens when it is entered, and closes when it is left.

    Each resource lives in a task of its own, which opens, checks and closes it: whatever binds to a task, such as a
    cancel scope or a task group, may stand in the factory, and no borrower's cancellation reaches it.
    """

    def __init__(
        self,
        name: str,
        factory: Callable[[], AbstractAsyncContextManager[T]],
        limits: Limits,
        *,
        clock: Clock,
        check: Callable[[T], Awaitable[object]] | None = None,
        breaks: Callable[[BaseException], bool] | None = None,
        on_closed: Callable[[Pool[Any]], None] | None = None,
    ) -> None:
        self.name = name
        self.breaks = breaks or leaves_in_doubt
        self.stock: Stock[T] = Stock(limits, self, clock.monotonic, random.random, checks=check is not None)
        self._factory = factory
        self._check = check
        self._clock = clock
        self._on_closed = on_closed
        self._orders: dict[Slot[T], asyncio.Queue[bool]] = {}
        """True asks for a check, False for the end."""
        self._tasks: dict[asyncio.Task[None], Slot[T] | None] = {}

    def start(self) -> None:
        """Begin to keep the minimum open, and to close what is too old."""
        self._spawn(self._look_after(), None)
        self.stock.warm()

    # -- borrowing ----------------------------------------------------------------------------------------------------

    def acquire(self, *, timeout: float | None = None) -> Lease[T]:
        """Borrow a resource for the block; whoever asked first is served first. `timeout` in seconds.

        Raises:
            PoolTimeoutError: None came free in time.
            PoolFullError: Too many wait already.
            PoolClosedError: The pool is closed.
            Exception: Whatever the factory raised.
        """
        frame = sys._getframe(1)  # noqa: SLF001 - the cheap way to know who borrows; the traceback module takes 100 times
        return Lease(self, timeout, (frame.f_code, frame.f_lineno))

    def discard(self, resource: T) -> None:
        """Say of a resource that is borrowed that it is broken; it is closed when it is given back.

        Raises:
            ValueError: It is not borrowed from this pool.
        """
        for slot in self.stock.borrowed:
            if slot.value is resource:
                slot.broken = True
                return
        raise ValueError(f"{resource!r} is not borrowed from pool {self.name!r}; discard it inside its `async with`")

    async def wait(self, where: Where, at_most: float | None) -> Slot[T]:
        """A slot, once it is this caller's turn."""
        stock = self.stock
        if stock.ended:
            raise PoolClosedError(f"pool {self.name!r} is closed")
        if len(stock.waiting) >= stock.limits.max_waiting:
            raise PoolFullError(f"pool {self.name!r}: {self._situation()}; raise max_size or max_waiting")
        seconds = stock.limits.timeout if at_most is None else at_most
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        waiter: Waiter[T] = Waiter(where, partial(_wake, woken))
        stock.ask(waiter)
        timer = loop.call_later(seconds, stock.give_up, waiter)
        try:
            await woken
        except BaseException:  # cancelled: perhaps in the moment that it was served
            stock.give_up(waiter)
            if waiter.slot is not None:
                stock.give_back(waiter.slot)
            raise
        finally:
            timer.cancel()
        if waiter.error is not None:
            raise waiter.error
        if waiter.slot is None:
            timeouts.add(1, {"plughost.pool.name": self.name})
            raise PoolTimeoutError(f"pool {self.name!r}: nothing came free within {seconds:g} s: {self._situation()}")
        return waiter.slot

    def _situation(self) -> str:
        """How it stands, for messages."""
        borrowed, waiting = self.stock.borrowed, len(self.stock.waiting)
        text = f"{len(borrowed)} of {self.stock.limits.max_size} are in use and {waiting} wait"
        return f"{text}; the longest is in use for {self._told(borrowed[0])}" if borrowed else text

    def _told(self, slot: Slot[T]) -> str:
        since = self._clock.monotonic() - slot.borrowed_at
        return f"{since:.3g} s, borrowed at {_place(slot.where)}"

    # -- resources: what the stock orders -----------------------------------------------------------------------------

    def open(self, slot: Slot[T]) -> None:
        """Open a resource, in a task of its own."""
        self._orders[slot] = asyncio.Queue()
        self._spawn(self._keep(slot), slot)

    def check(self, slot: Slot[T]) -> None:
        """Have the resource's task check it."""
        self._orders[slot].put_nowait(True)

    def close(self, slot: Slot[T]) -> None:
        """Have the resource's task close it, and end."""
        self._orders[slot].put_nowait(False)

    async def _keep(self, slot: Slot[T]) -> None:
        """One resource, from its opening to its end."""
        try:
            resource = self._factory()
            async with self._in_time("opening"):
                slot.value = await resource.__aenter__()
        except BaseException as error:
            del self._orders[slot]
            failures.add(1, {"plughost.pool.name": self.name})
            known = error if isinstance(error, Exception) else PoolError(f"pool {self.name!r}: opening was cancelled")
            logger.info("pool %r cannot open a resource: %r", self.name, error)
            self.stock.failed(slot, known)
            if known is not error:
                raise
            return
        opened.add(1, {"plughost.pool.name": self.name})
        try:
            self.stock.opened(slot)
            while await self._orders[slot].get():
                self.stock.checked(slot, good=await self._is_good(slot.value))
        finally:
            try:
                async with self._in_time("closing"):
                    await resource.__aexit__(None, None, None)
            except Exception as error:  # noqa: BLE001 - it is gone either way, and nobody waits for it
                logger.warning("pool %r: a resource did not close well: %r", self.name, error)
            del self._orders[slot]
            self.stock.closed(slot)

    async def _is_good(self, value: T) -> bool:
        assert self._check is not None
        try:
            async with self._in_time("the check"):
                return await self._check(value) is not False
        except Exception as error:  # noqa: BLE001 - whatever it is, the resource is of no use
            logger.info("pool %r replaces a resource that failed its check: %r", self.name, error)
            return False

    def _in_time(self, what: str) -> _InTime:
        limit = self.stock.limits.io_timeout
        return _InTime(limit, f"pool {self.name!r}: {what} took longer than {limit:g} s")

    async def _look_after(self) -> None:
        while True:
            limits = self.stock.limits
            await self._clock.sleep(min(MOST_PAUSE, min(limits.max_idle, limits.max_lifetime, limits.leak_after) / 10))
            for slot in self.stock.sweep():
                leaks.add(1, {"plughost.pool.name": self.name})
                logger.warning("pool %r: a resource may be leaked; it is in use for %s", self.name, self._told(slot))

    def _spawn(self, work: Any, slot: Slot[T] | None) -> None:
        """Run it in a task that knows nothing of the call in which it happens to begin."""
        task = asyncio.get_running_loop().create_task(work, name=f"pool {self.name}", context=Context())
        self._tasks[task] = slot
        task.add_done_callback(self._tasks.pop)

    # -- the pool as a whole ------------------------------------------------------------------------------------------

    def limit(self, limits: Limits) -> None:
        """Take other limits: at once where they widen, as resources are given back where they narrow."""
        self.stock.limits = limits
        self.stock.sweep()

    def show(self) -> Mapping[str, Any]:
        """How it stands, as JSON."""
        stock = self.stock
        count, now = stock.count(), self._clock.monotonic()
        return {
            "name": self.name,
            "size": len(stock.slots),
            "max_size": stock.limits.max_size,
            **{state.value.replace(" ", "_"): count[state] for state in State if state is not State.CLOSED},
            "waiting": len(stock.waiting),
            "longest": [{"seconds": round(now - s.borrowed_at, 3), "at": _place(s.where)} for s in stock.borrowed[:3]],
        }

    async def aclose(self) -> None:
        """Lend nothing any more, wait for what is borrowed as long as `close_timeout`, and close everything."""
        stock = self.stock
        stock.end(PoolClosedError(f"pool {self.name!r} is closed"))
        try:
            for task, slot in self._tasks.items():
                if slot is None or slot.state is State.OPENING:
                    task.cancel()
            await self._ended(stock.limits.close_timeout)
            for slot in stock.borrowed:
                logger.warning("pool %r closes a resource that is in use for %s", self.name, self._told(slot))
        finally:
            for task in [*self._tasks]:
                task.cancel()
            await self._ended(2 * stock.limits.io_timeout)
            if self._on_closed is not None:
                self._on_closed(self)

    async def _ended(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        count = self.stock.count()
        return f"<Pool {self.name!r}: {count[State.IN_USE]} in use, {count[State.IDLE]} idle>"


class _InTime:
    """`asyncio.timeout` that says what took too long."""

    def __init__(self, seconds: float, message: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._message = message

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise TimeoutError(self._message) from None


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():  # it is, when the borrower was cancelled and does not know yet
        woken.set_result(None)


def _place(where: Where | None) -> str:
    return f"{where[0].co_filename}:{where[1]} in {where[0].co_qualname}" if where else "an unknown place"
