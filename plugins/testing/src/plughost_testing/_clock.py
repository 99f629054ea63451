"""Virtual time for asyncio: the loop's clock stands still while something runs, and jumps to the next timer when idle.

The libraries that do this were looked at first. `looptime`, the best kept of them, knows worker threads only if they
come from `loop.run_in_executor`: a synchronous tool of an MCP server runs in a thread of anyio's, and every timeout
around it fires before the thread has begun. It also waits for ever when nothing can happen any more, spins 42 empty
rounds before each jump, and has no order of callbacks to seed. The selector below is what is left of the idea.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakSet

import anyio
import anyio.to_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = 1_767_225_600.0
"""Wall clock at the start of virtual time: 2026-01-01T00:00:00Z."""
START = 1_000.0
"""Monotonic clock at the start of virtual time; not 0, which hides a mistaken `if deadline:`."""
THREAD_POLL = 0.005
"""Real seconds between looks at what worker threads do."""
PATIENCE = 1.0
"""Real seconds that a loop with nothing left to do waits for a thread that it does not know."""


class DeadlockError(RuntimeError):
    """Raised out of the loop when no callback, timer, thread or descriptor is left that could wake a task."""


class _Jump(selectors.DefaultSelector):
    """Where the loop waits. Instead of waiting for a timer it moves the clock, unless the real world is involved."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.loop.threads_at_work:
            return super().select(THREAD_POLL)  # the clock stands still, as it does while a coroutine runs
        if self.loop.watches_descriptors:
            begin = time.monotonic()
            events = super().select(timeout)
            self._clock.advance(time.monotonic() - begin)
            return events
        if timeout is None:
            if events := super().select(PATIENCE):
                return events
            raise DeadlockError(f"nothing can happen any more; waiting are: {self.loop.waiting()}")
        self._clock.advance(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. With a seed, tasks that are ready together run in an order drawn from it.

    Only the steps of tasks are reordered, and only within one round of the loop: asyncio promises nothing about those,
    while transports rely on the order of their own callbacks.
    """

    def __init__(self, clock: VirtualClock, seed: int | None = None) -> None:
        self._jump = _Jump(clock)
        self._jump.loop = self
        self.clock = clock
        self._random = random.Random(seed)  # noqa: S311 - to be reproduced, not to be secret
        self._seeded = seed is not None
        self._round: list[Callable[[], Any]] = []
        self._next_round: list[Callable[[], Any]] = []
        self._in_executor: WeakSet[asyncio.Future[Any]] = WeakSet()
        self.timers: WeakSet[asyncio.TimerHandle] = WeakSet()
        super().__init__(self._jump)
        self._own_descriptors = len(self._jump.get_map())  # the pipe that wakes the loop

    def time(self) -> float:
        return self.clock.monotonic()

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        self.timers.add(handle)
        return handle

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if not self._seeded or not isinstance(getattr(callback, "__self__", None), asyncio.Task):
            return super().call_soon(callback, *args, context=context)
        self._next_round.append(partial(context.run, callback, *args) if context else partial(callback, *args))
        return super().call_soon(self._run_one)

    def _run_one(self) -> None:
        if not self._round:
            self._round, self._next_round = self._next_round, []
            self._random.shuffle(self._round)
        self._round.pop()()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._in_executor.add(future)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in the base
        """Wait for its threads as long as it takes: no timeout of virtual time is about them."""
        del timeout
        await super().shutdown_default_executor()

    @property
    def threads_at_work(self) -> bool:
        """Whether a worker thread of anyio's or of the default executor has something to do."""
        if any(not future.done() for future in self._in_executor):
            return True
        return anyio.to_thread.current_default_thread_limiter().borrowed_tokens > 0

    @property
    def watches_descriptors(self) -> bool:
        """Whether a socket, pipe or child process could wake the loop."""
        return len(self._jump.get_map()) > self._own_descriptors

    def waiting(self) -> str:
        """The tasks that wait, by name."""
        return ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self))) or "nobody"


class VirtualClock:
    """A `plughost.Clock` on virtual time, and the maker of event loops that run on it.

    In a test, name its loops as the backend:

        @pytest.fixture
        def anyio_backend(virtual_clock):
            return virtual_clock.backend

    Whatever sleeps or times out in such a test (asyncio, anyio, the SDK, the host, its plugins) takes no real time. It
    is for work in memory: while the loop watches a socket, a pipe or a child process, nobody can know whether an answer
    is under way, so time passes as it really does; `advance()` then skips ahead. While a worker thread has something to
    do, time stands still.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._now = START

    @property
    def backend(self) -> tuple[str, dict[str, Any]]:
        """What an `anyio_backend` fixture returns to run tests on this clock."""
        return "asyncio", {"loop_factory": self.new_loop}

    def new_loop(self) -> VirtualLoop:
        """An event loop on this clock."""
        return VirtualLoop(self, self.seed)

    def advance(self, seconds: float) -> None:
        """Move the clock. Timers that are due by then run in the next round of the loop, in their order."""
        self._now += seconds

    def time(self) -> float:
        return EPOCH + self._now - START

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now - START:g} s>"


def clock_of_loop() -> VirtualClock | None:
    """The virtual clock of the running loop, if it has one."""
    loop = asyncio.get_running_loop()
    return loop.clock if isinstance(loop, VirtualLoop) else None


def run(main: Callable[[], Coroutine[Any, Any, T]], *, clock: VirtualClock | None = None) -> T:
    """Run `main()` on virtual time, to its end; without pytest.

    Raises:
        DeadlockError: It waits for what can never happen.
    """
    return anyio.run(main, backend="asyncio", backend_options={"loop_factory": (clock or VirtualClock()).new_loop})
