"""Two attempts side by side, without a host."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from plughost_retry import hedged
from plughost_testing import VirtualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Attempts:
    """Attempts that take so many seconds, and then succeed, or fail where they are negative."""

    def __init__(self, *seconds: float, delay: float = 2, allowed: bool = True) -> None:
        self.seconds = list(seconds)
        self.delay = delay
        self.permitted = allowed
        self.started = 0
        self.cancelled: list[int] = []

    async def attempt(self) -> int:
        self.started += 1
        number, seconds = self.started, self.seconds.pop(0)
        try:
            await anyio.sleep(abs(seconds))
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if seconds < 0:
            raise KeyError(number)
        return number

    async def run(self) -> int:
        return await hedged(self.attempt, wait=lambda: anyio.sleep(self.delay), allowed=lambda: self.permitted)


@pytest.mark.parametrize(
    ("attempts", "winner", "cancelled", "took"),
    [
        (Attempts(1, 1), 1, [], 1),
        (Attempts(10, 1), 2, [1], 3),
        (Attempts(4, 10), 1, [2], 4),
        (Attempts(5, 3), 1, [], 5),
        (Attempts(10, 1, allowed=False), 1, [], 10),
        (Attempts(-3, 5), 2, [], 7),
        (Attempts(5, -1), 1, [], 5),
    ],
    ids=["quick", "second-wins", "first-wins", "at-once", "not-allowed", "first-fails", "second-fails"],
)
async def test_the_first_good_answer_wins(
    virtual_clock: VirtualClock, attempts: Attempts, winner: int, cancelled: list[int], took: float
) -> None:
    """Whoever succeeds first is heard at once, and the other one is cancelled and gone."""
    began = virtual_clock.monotonic()
    assert await attempts.run() == winner
    assert virtual_clock.monotonic() - began == took
    assert attempts.cancelled == cancelled


@pytest.mark.parametrize(("attempts", "last"), [(Attempts(-5, -1), 1), (Attempts(-3, -10), 2), (Attempts(-1, 1), 1)])
async def test_the_last_failure_is_raised(attempts: Attempts, last: int) -> None:
    """If nobody succeeds, the failure that came last counts; before the delay there is nobody to wait for."""
    with pytest.raises(KeyError) as caught:
        await attempts.run()
    assert caught.value.args == (last,)


async def test_a_cancelled_caller_cancels_both() -> None:
    """Both attempts end with the caller."""
    attempts = Attempts(10, 10)
    with anyio.move_on_after(5) as scope:
        await attempts.run()
    assert scope.cancelled_caught
    assert sorted(attempts.cancelled) == [1, 2]


async def test_a_cancelled_task_cancels_both() -> None:
    """A cancellation of asyncio's own, as at a time limit, ends both too."""
    attempts = Attempts(10, 10)
    task = asyncio.ensure_future(attempts.run())
    await anyio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(attempts.cancelled) == [1, 2]


async def test_an_attempt_that_ends_cancelled_is_no_answer() -> None:
    """What ends with a cancellation that nobody asked for stays one."""

    async def cancelled() -> int:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await hedged(cancelled, wait=lambda: anyio.sleep(1), allowed=lambda: False)
