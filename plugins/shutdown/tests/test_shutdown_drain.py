"""The drain alone: its phases, and whoever asks for it twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_shutdown._drain import Drain, Phase
from plughost_testing import VirtualClock, run

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Work:
    """Calls in flight that finish at a time of the clock, and the phases of a drain with their times."""

    def __init__(self, clock: VirtualClock, until: float = 0) -> None:
        self.clock = clock
        self.until = clock.monotonic() + until
        self.begin = clock.monotonic()
        self.phases: list[tuple[Phase, float]] = []
        self.drain = Drain(clock, self._entered, self._finish)

    def _entered(self, phase: Phase) -> None:
        self.phases.append((phase, round(self.clock.monotonic() - self.begin, 6)))

    async def _finish(self, limit: float) -> bool:
        rest = self.until - self.clock.monotonic()
        await self.clock.sleep(min(max(rest, 0), limit))
        return rest <= limit


async def test_serves_through_the_grace_and_then_refuses(virtual_clock: VirtualClock) -> None:
    work = Work(virtual_clock, until=7)
    assert await work.drain.run(grace=5, limit=30)
    assert work.phases == [(Phase.GRACE, 0), (Phase.DRAINING, 5), (Phase.DRAINED, 7)]


async def test_gives_up_at_the_limit_which_begins_after_the_grace(virtual_clock: VirtualClock) -> None:
    work = Work(virtual_clock, until=100)
    assert not await work.drain.run(grace=5, limit=30)
    assert work.phases == [(Phase.GRACE, 0), (Phase.DRAINING, 5), (Phase.OVERDUE, 35)]
    assert work.drain.refusing


async def test_a_second_request_joins_and_the_shorter_grace_counts(virtual_clock: VirtualClock) -> None:
    work = Work(virtual_clock, until=12)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: work.drain.run(grace=60, limit=30))
        await virtual_clock.sleep(10)
        assert work.drain.phase is Phase.GRACE
        assert await work.drain.run(grace=0, limit=30)
        tasks.cancel_scope.cancel()
    assert work.phases == [(Phase.GRACE, 0), (Phase.DRAINING, 10), (Phase.DRAINED, 12)]


async def test_resume_during_the_grace_refuses_nobody(virtual_clock: VirtualClock) -> None:
    work = Work(virtual_clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: work.drain.run(grace=5, limit=30))
        await virtual_clock.sleep(1)
        work.drain.resume()
    assert work.phases == [(Phase.GRACE, 0), (Phase.SERVING, 1)]


async def test_resume_ends_the_wait_for_calls_in_flight(virtual_clock: VirtualClock) -> None:
    work = Work(virtual_clock, until=1000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: work.drain.run(grace=0, limit=500))
        await virtual_clock.sleep(3)
        work.drain.resume()
    assert work.phases == [(Phase.GRACE, 0), (Phase.DRAINING, 0), (Phase.SERVING, 3)]
    assert virtual_clock.monotonic() - work.begin == pytest.approx(3)


async def test_resume_ends_the_wait_of_all_who_asked(virtual_clock: VirtualClock) -> None:
    """And none of them has a say in the next drain."""
    work = Work(virtual_clock, until=100)
    first = asyncio.create_task(work.drain.run(grace=0, limit=30))
    second = asyncio.create_task(work.drain.run(grace=0, limit=30))
    await anyio.sleep(10)
    work.drain.resume()
    third = asyncio.create_task(work.drain.run(grace=0, limit=30))
    assert not await first
    assert not await second
    assert work.drain.phase is Phase.DRAINING
    assert not await third
    assert work.phases[-2:] == [(Phase.DRAINING, 10), (Phase.OVERDUE, 40)]


NEXT = {
    Phase.SERVING: {Phase.GRACE},
    Phase.GRACE: {Phase.DRAINING, Phase.SERVING},
    Phase.DRAINING: {Phase.DRAINED, Phase.OVERDUE, Phase.SERVING},
    Phase.DRAINED: {Phase.OVERDUE, Phase.SERVING},
    Phase.OVERDUE: {Phase.DRAINED, Phase.SERVING},
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("drain"), st.sampled_from([0, 1, 5]), st.sampled_from([0, 2, 9])),
        st.tuples(st.just("resume")),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 3, 20])),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_no_phase_is_skipped_whatever_operators_do(steps: Sequence[tuple[Any, ...]]) -> None:
    """Drains and resumes in any order and overlap: each step follows from the one before, and everybody returns."""
    clock = VirtualClock()

    async def scenario() -> None:
        work = Work(clock, until=15)
        async with anyio.create_task_group() as tasks:
            for what, *numbers in steps:
                if what == "drain":
                    grace, limit = numbers
                    tasks.start_soon(partial(work.drain.run, grace=grace, limit=limit))
                elif what == "resume":
                    work.drain.resume()
                else:
                    await clock.sleep(numbers[0])
                await asyncio.sleep(0)
        phases = [Phase.SERVING, *(phase for phase, _ in work.phases)]
        for before, after in pairwise(phases):
            assert after in NEXT[before], phases
        assert work.drain.refusing == (work.drain.phase not in (Phase.SERVING, Phase.GRACE))
        assert work.drain.phase not in (Phase.GRACE, Phase.DRAINING)

    run(scenario, clock=clock)
