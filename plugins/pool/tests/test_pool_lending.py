"""A pool in an event loop, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest
from plughost_pool import (
    Limits,
    Pool,
    PoolClosedError,
    PoolConfig,
    PoolError,
    PoolFullError,
    PoolTimeoutError,
)
from plughost_testing import VirtualClock

pytestmark = pytest.mark.anyio
DEFAULTS = PoolConfig().limits("any", {})


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Connection:
    def __init__(self, number: int) -> None:
        self.number = number
        self.alive = True
        self.opened_in = asyncio.current_task()

    async def ping(self) -> None:
        await anyio.sleep(0.1)
        if not self.alive:
            raise ConnectionResetError


class Server:
    """What connections are opened to: counts them, and fails or hangs on demand."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.open: list[Connection] = []
        self.most = 0
        self.seconds = 1.0
        self.fails = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        await anyio.sleep(self.seconds)
        if self.fails:
            self.fails -= 1
            raise ConnectionRefusedError("nobody listens")
        connection = Connection(len(self.opened))
        self.opened.append(connection)
        self.open.append(connection)
        self.most = max(self.most, len(self.open))
        try:
            async with anyio.create_task_group():  # binds it to its task: closing it elsewhere would raise
                yield connection
        finally:
            self.open.remove(connection)
            assert asyncio.current_task() is connection.opened_in


class Maker:
    """Makes pools that are closed when the test ends."""

    def __init__(self, clock: VirtualClock, server: Server) -> None:
        self.clock = clock
        self.server = server
        self.pools: list[Pool[Any]] = []

    def __call__(
        self,
        factory: Callable[[], AbstractAsyncContextManager[Connection]] | None = None,
        *,
        breaks: Callable[[BaseException], bool] | None = None,
        **limits: Any,
    ) -> Pool[Connection]:
        bounds: Limits = replace(DEFAULTS, **{"max_size": 2, **limits})
        make = factory or self.server.connect
        pool = Pool("db", make, bounds, clock=self.clock, check=Connection.ping, breaks=breaks)
        self.pools.append(pool)
        pool.start()
        return pool


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def make(virtual_clock: VirtualClock, server: Server) -> AsyncIterator[Maker]:
    maker = Maker(virtual_clock, server)
    yield maker
    for pool in maker.pools:
        await pool.aclose()
        assert not pool._tasks
        assert not pool.stock.slots
    assert not server.open


async def hold(pool: Pool[Connection], seconds: float = 1.0) -> int:
    """Borrow for a while; the number of what was borrowed."""
    async with pool.acquire() as connection:
        await anyio.sleep(seconds)
        return connection.number


async def test_is_reused(make: Maker, server: Server) -> None:
    """A resource is opened when first needed, and lent again."""
    pool = make()
    assert [await hold(pool), await hold(pool)] == [0, 0]
    assert len(server.opened) == 1


async def test_last_used_is_lent_first(make: Maker) -> None:
    """Of several idle ones the last used is lent, so that the others age and are closed."""
    pool = make(max_size=3)
    await asyncio.gather(hold(pool, 1), hold(pool, 3), hold(pool, 2))
    assert [await hold(pool, 0) for _ in range(3)] == [1, 1, 1]


async def test_first_come_first_served(make: Maker, server: Server) -> None:
    """Borrowers are served in the order in which they asked, and never by more than `max_size` at once."""
    pool, order = make(), list[int]()

    async def borrow(number: int) -> None:
        async with pool.acquire(timeout=100):
            order.append(number)
            await anyio.sleep(1 + number % 3)

    await asyncio.gather(*(borrow(number) for number in range(20)))
    assert order == [*range(20)]
    assert server.most == 2


async def test_whichever_is_ready_first(make: Maker, server: Server) -> None:
    """Who waits for one to open gets one that is given back before; the opened one lies ready."""
    pool = make()
    async with pool.acquire():
        server.seconds = 50
        waiting = asyncio.ensure_future(hold(pool, 0))
        await anyio.sleep(1)
    assert await waiting == 0


async def test_timeout_names_who_has_it(make: Maker, virtual_clock: VirtualClock) -> None:
    """Who waited in vain is told how it stands, and where the longest borrower borrowed."""
    pool = make(max_size=1)
    holder = asyncio.ensure_future(hold(pool, 10))
    await anyio.sleep(2)
    before = virtual_clock.monotonic()
    with pytest.raises(PoolTimeoutError) as caught:
        async with pool.acquire(timeout=3):
            pass
    assert virtual_clock.monotonic() - before == pytest.approx(3)
    assert isinstance(caught.value, TimeoutError)
    assert "pool 'db': nothing came free within 3 s: 1 of 1 are in use and 0 wait; the longest" in str(caught.value)
    assert f"for 4 s, borrowed at {__file__}:" in str(caught.value)
    assert str(caught.value).endswith(" in hold")
    await holder


async def test_too_many_waiters(make: Maker) -> None:
    """Beyond `max_waiting`, borrowers are refused at once."""
    pool = make(max_size=1, max_waiting=2)
    tasks = [asyncio.ensure_future(hold(pool)) for _ in range(2)]
    await anyio.lowlevel.checkpoint()
    with pytest.raises(PoolFullError, match="raise max_size or max_waiting"):
        await hold(pool)
    await asyncio.gather(*tasks)


@pytest.mark.seeds(5)
async def test_cancelled_acquire_leaks_nothing(make: Maker, server: Server, seed: int) -> None:
    """Borrowers cancelled while one is opened, checked, or handed over leave all resources to the others."""
    pool = make(max_size=3, check_after=0)
    tasks = [asyncio.ensure_future(hold(pool, 0.5)) for _ in range(60)]
    for number, task in enumerate(tasks):
        if number % 3 != seed % 3:
            asyncio.get_running_loop().call_later(number / 20, task.cancel)
    await asyncio.wait(tasks)
    assert all(task.cancelled() or task.exception() is None for task in tasks)
    await anyio.sleep(2)
    shown = pool.show()
    assert (shown["in_use"], shown["waiting"], shown["opening"], shown["checking"]) == (0, 0, 0, 0)
    assert server.most <= 3
    assert len(await asyncio.gather(*(hold(pool) for _ in range(3)))) == 3


async def test_cancelled_creation_serves_the_next(make: Maker, server: Server) -> None:
    """What is opened for a borrower who is cancelled goes to the next one; it is not opened twice."""
    pool = make(max_size=1)
    first, second = (asyncio.ensure_future(hold(pool)) for _ in range(2))
    await anyio.sleep(0.5)
    first.cancel()
    assert await second == 0
    assert len(server.opened) == 1


async def test_handed_over_while_cancelled(make: Maker) -> None:
    """A resource given back in the step in which the next in line is cancelled goes to the one after."""
    pool = make(max_size=1)
    async with pool.acquire():
        second, third = (asyncio.ensure_future(hold(pool)) for _ in range(2))
        await anyio.sleep(1)
        second.cancel()
    assert await third == 0
    assert second.cancelled()


async def test_failure_to_open_reaches_the_borrower(make: Maker, server: Server) -> None:
    """A factory that fails takes no place: the one who waits gets its error as it is, the next has another try."""
    pool = make(max_size=1)
    server.fails = 1
    results = await asyncio.gather(hold(pool), hold(pool), return_exceptions=True)
    assert isinstance(results[0], ConnectionRefusedError)
    assert results[1] == 0
    assert pool.show()["size"] == 1


async def test_hanging_factory_is_ended(make: Maker, server: Server) -> None:
    """Opening that takes longer than `io_timeout` is given up, and takes no place."""
    pool = make(max_size=1, io_timeout=4, timeout=60)
    server.seconds = 1000
    with pytest.raises(TimeoutError, match="pool 'db': opening took longer than 4 s"):
        await hold(pool)
    server.seconds = 1
    assert await hold(pool) == 0


async def test_checked_when_long_idle(make: Maker, server: Server, virtual_clock: VirtualClock) -> None:
    """After `check_after` of idleness a resource is checked before it is lent; one that fails is replaced."""
    pool = make(check_after=30, max_size=1)
    await hold(pool)
    before = virtual_clock.monotonic()
    assert await hold(pool, 0) == 0
    assert virtual_clock.monotonic() == before, "used a moment ago, it is not checked"
    await anyio.sleep(31)
    before = virtual_clock.monotonic()
    assert await hold(pool, 0) == 0
    assert virtual_clock.monotonic() - before == pytest.approx(0.1)
    server.open[0].alive = False
    await anyio.sleep(31)
    assert await hold(pool) == 1


async def test_broken_is_replaced(make: Maker, server: Server) -> None:
    """An exception that means a lost connection, a cancellation, or `discard` has the resource replaced."""
    pool = make(max_size=1)
    with pytest.raises(ConnectionResetError):
        async with pool.acquire():
            raise ConnectionResetError
    assert await hold(pool) == 1
    with pytest.raises(ExceptionGroup):
        async with pool.acquire():
            raise ExceptionGroup("several", [ValueError(), anyio.ClosedResourceError()])
    with anyio.move_on_after(5):
        await hold(pool, 10)
    async with pool.acquire() as connection:
        assert connection.number == 3
        pool.discard(connection)
    assert await hold(pool) == 4
    with pytest.raises(ValueError, match="is not borrowed from pool 'db'"):
        pool.discard(connection)
    assert server.most == 1


@pytest.mark.parametrize("error", [KeyError("k"), PoolTimeoutError("another pool")])
async def test_other_errors_break_nothing(make: Maker, error: Exception) -> None:
    """An exception of the borrower's own, also another pool's timeout, leaves the resource in use."""
    pool = make()
    with pytest.raises(type(error)):
        async with pool.acquire():
            raise error
    assert await hold(pool) == 0


async def test_own_classification(make: Maker) -> None:
    """A plugin can say itself which exceptions mean that a resource is broken."""
    pool = make(breaks=lambda error: isinstance(error, KeyError))
    for error in (ConnectionResetError(), KeyError()):
        with pytest.raises(type(error)):
            async with pool.acquire():
                raise error
    assert await hold(pool) == 1


async def test_lifetime(make: Maker, server: Server) -> None:
    """No resource is lent after its lifetime; one in use then is closed when given back. Lifetimes differ a little."""
    pool = make(max_lifetime=100, max_size=5)
    await asyncio.gather(*(hold(pool) for _ in range(5)))
    ends = {slot.expires_at for slot in pool.stock.slots}
    assert len(ends) == 5
    assert all(90 <= end - server_time <= 100 for end in ends for server_time in [1001.0])
    await hold(pool, 101)
    assert await hold(pool) == 5


async def test_idle_ones_are_closed_down_to_the_minimum(make: Maker, server: Server) -> None:
    """The minimum is opened ahead, and kept open; what is idle for `max_idle` beyond it is closed."""
    pool = make(min_size=2, max_size=5, max_idle=60, max_lifetime=10_000)
    await anyio.sleep(1.5)
    assert len(server.open) == 2
    await asyncio.gather(*(hold(pool) for _ in range(5)))
    assert len(server.open) == 5
    await anyio.sleep(70)
    assert len(server.open) == 2
    assert len(server.opened) == 5


async def test_minimum_survives_failures(make: Maker, server: Server) -> None:
    """If the minimum cannot be opened it is tried again later, with nobody waiting."""
    server.fails = 2
    make(min_size=1)
    await anyio.sleep(100)
    assert len(server.open) == 1


async def test_expired_ones_of_the_minimum_are_replaced(make: Maker, server: Server) -> None:
    """At the end of its lifetime a resource of the minimum gives way to a new one, ahead of need."""
    make(min_size=1, max_lifetime=100)
    await anyio.sleep(150)
    assert [connection.number for connection in server.open] == [1]


async def test_leak_is_told_once(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """What is in use for `leak_after` is told once, with the place where it was borrowed."""
    pool = make(leak_after=60)
    await hold(pool, 200)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "pool 'db': a resource may be leaked; it is in use for 6" in record.getMessage()
    assert f"borrowed at {__file__}:" in record.getMessage()


async def test_close_waits_for_borrowers(make: Maker, server: Server, virtual_clock: VirtualClock) -> None:
    """Closing answers who waits, waits for what is in use, and closes all; then nothing is lent any more."""
    pool = make(max_size=1)
    holder, waiter = (asyncio.ensure_future(hold(pool, 3)) for _ in range(2))
    await anyio.sleep(2)
    async with pool:
        pass
    assert await holder == 0
    with pytest.raises(PoolClosedError):
        await waiter
    with pytest.raises(PoolClosedError):
        await hold(pool)
    assert virtual_clock.monotonic() == pytest.approx(1004)
    assert not server.open
    await pool.aclose()


async def test_close_waits_not_for_ever(make: Maker, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """After `close_timeout` what is in use is closed under its borrower, who is named; giving it back is harmless."""
    pool = make(close_timeout=5)
    holder = asyncio.ensure_future(hold(pool, 60))
    await anyio.sleep(2)
    await pool.aclose()
    assert not server.open
    assert "closes a resource that is in use for 6 s, borrowed at" in caplog.text
    assert await holder == 0


async def test_closed_while_opening(make: Maker, server: Server) -> None:
    """Closing does not wait for what is just being opened."""
    server.seconds = 1000
    pool = make(min_size=2)
    await anyio.sleep(0.1)
    await pool.aclose()
    assert not pool._tasks


async def test_failing_close_frees_the_place(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """A resource that raises or hangs when closed is logged, and its place is free."""

    class Sticky:
        async def __aenter__(self) -> Connection:
            return Connection(0)

        async def __aexit__(self, *exception: object) -> None:
            await anyio.sleep(1000)

    pool = make(Sticky, max_size=1, io_timeout=2)
    with pytest.raises(OSError, match="gone"):
        async with pool.acquire():
            raise OSError("gone")
    assert await hold(pool) == 0
    assert "did not close well: TimeoutError(\"pool 'db': closing took longer than 2 s\")" in caplog.text


async def test_limits_change_live(make: Maker, server: Server) -> None:
    """A higher maximum serves those who wait at once; a lower one closes resources as they are given back."""
    pool = make(max_size=1)
    tasks = [asyncio.ensure_future(hold(pool, 5)) for _ in range(4)]
    await anyio.sleep(2)
    pool.limit(replace(pool.stock.limits, max_size=4))
    await anyio.sleep(2)
    assert len(server.open) == 4
    pool.limit(replace(pool.stock.limits, max_size=1))
    await asyncio.gather(*tasks)
    await anyio.lowlevel.checkpoint()
    assert len(server.open) == 1


async def test_knows_nothing_of_the_call(make: Maker) -> None:
    """A resource opened for a call does not see that call's context variables, which it would keep alive."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen = []

    class Seeing:
        async def __aenter__(self) -> Self:
            seen.append(variable.get())
            return self

        async def __aexit__(self, *exception: object) -> None: ...

    pool: Pool[Any] = make(Seeing)  # type: ignore[arg-type]  # what it opens does not matter here
    variable.set("a call's")
    async with pool.acquire():
        pass
    assert seen == ["unset"]


async def test_errors_are_of_one_family() -> None:
    """A borrower can catch all that a pool raises by itself."""
    assert all(issubclass(kind, PoolError) for kind in (PoolTimeoutError, PoolFullError, PoolClosedError))
