"""The timer alone: what it cancels, and whose cancellation it takes for its own."""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from plughost_testing import VirtualClock
from plughost_timeout import Timer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


async def ends(seconds: float, limit: float) -> bool:
    """Whether a sleep of `seconds` is cut at `limit`."""
    timer = Timer(limit, "sleep")
    try:
        await anyio.sleep(seconds)
    except asyncio.CancelledError:
        if not timer.stop():
            raise
        return True
    return timer.stop()


async def test_cuts_what_takes_too_long(virtual_clock: VirtualClock) -> None:
    """The task is cancelled at the limit, and is as before afterwards."""
    began = virtual_clock.monotonic()
    assert await ends(100, limit=3)
    assert virtual_clock.monotonic() - began == 3
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_leaves_the_quick_alone() -> None:
    """Stopped in time, it leaves no timer behind."""
    assert not await ends(3, limit=100)
    assert not [timer for timer in asyncio.get_running_loop().timers if not timer.cancelled()]  # type: ignore[attr-defined]  # of the virtual loop


async def test_timers_nest() -> None:
    """The inner one that is shorter cuts only what is inside; the outer one cuts all."""
    assert await ends(100, limit=5)
    timer = Timer(10, "outer")
    assert await ends(100, limit=5)
    await anyio.sleep(4)
    assert not timer.stop()
    outer = Timer(5, "outer")
    try:
        await ends(100, limit=10)
    except asyncio.CancelledError:
        assert outer.stop()
    else:
        pytest.fail("the outer timer cut nothing")


@pytest.mark.parametrize("by", ["scope", "task"])
async def test_a_cancellation_by_others_at_the_same_moment_wins(by: str) -> None:
    """Where the caller gave up too, the call ends cancelled, not timed out."""
    ended: list[object] = []

    async def work() -> None:
        try:
            ended.append(await ends(100, limit=3))
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    if by == "scope":
        with anyio.move_on_after(3):
            await work()
    else:
        task = asyncio.ensure_future(work())
        asyncio.get_running_loop().call_later(3, task.cancel)
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
    assert ended == ["cancelled"]


async def test_cuts_through_task_groups_and_shields() -> None:
    """What runs in children of the task ends with it; a shield, as around a synchronous tool, does not hold it up."""
    timer = Timer(3, "group")
    children: list[str] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            children.append("ended")

    async def parent() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()

    with pytest.raises(asyncio.CancelledError):
        await parent()
    assert timer.stop()
    assert children == ["ended"]


async def test_cancels_again_what_swallows_it(virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """What goes on after it was cancelled is cancelled again, and named in the log."""
    began = virtual_clock.monotonic()
    timer = Timer(3, "stubborn")
    swallowed = 0
    while swallowed < 3:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            swallowed += 1
    assert timer.stop()
    assert virtual_clock.monotonic() - began == 3 + 5 + 5
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "'stubborn' was cancelled at its time limit 1 times, and still runs" in caplog.text


class _Held:
    """Something that a call has in its context."""


_HELD: ContextVar[_Held | None] = ContextVar("held", default=None)


async def test_keeps_nothing_of_a_call_that_is_over() -> None:
    """The loop keeps a timer that was stopped until its time has come; the context of the call is gone by then."""
    held = _Held()
    gone = weakref.ref(held)
    token = _HELD.set(held)
    timer = Timer(100, "call")
    _HELD.reset(token)
    timer.stop()
    del held, token
    assert gone() is None


async def test_runs_out_in_the_context_of_its_call(caplog: pytest.LogCaptureFixture) -> None:
    """What it logs belongs to the call."""
    seen: list[_Held | None] = []

    def note(_: logging.LogRecord) -> bool:
        seen.append(_HELD.get())
        return True

    caplog.handler.addFilter(note)
    held = _Held()
    token = _HELD.set(held)
    timer = Timer(1, "call")
    _HELD.reset(token)
    for _ in range(2):
        with suppress(asyncio.CancelledError):
            await anyio.sleep(10)
    timer.stop()
    assert seen == [held]
