"""The windows alone, against an exact reference that keeps every call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_circuit_breaker._window import SLICES, CountWindow, TimeWindow, Window

SECONDS = 60.0
Calls = list[tuple[float, bool, bool]]


def sums(window: Window) -> tuple[int, int, int]:
    return window.calls, window.failures, window.slow


def exact(calls: Calls) -> tuple[int, int, int]:
    return len(calls), sum(failed for _, failed, _ in calls), sum(slow for _, _, slow in calls)


def fill(window: Window, steps: Calls, start: float = 1000.0) -> tuple[float, Calls]:
    """Record calls, each so long after the one before; gives the time, and the calls with theirs."""
    now, calls = start, []
    for step, failed, slow in steps:
        now += step
        window.record(now, failed=failed, slow=slow)
        calls.append((now, failed, slow))
    return now, calls


STEPS = st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.booleans()), max_size=60)


@given(steps=STEPS, later=st.floats(0, 100))
@settings(max_examples=75, deadline=None)
def test_time_window_counts_nine_to_ten_tenths(steps: Calls, later: float) -> None:
    """A call counts for nine tenths of the window at least, and never longer than the window."""
    window = TimeWindow(SECONDS)
    now, calls = fill(window, steps)
    now += later
    window.roll(now)
    width = SECONDS / SLICES
    surely = exact([call for call in calls if now - call[0] < SECONDS - width - 1e-6])
    at_most = exact([call for call in calls if now - call[0] <= SECONDS + 1e-6])
    assert all(low <= count <= high for low, count, high in zip(surely, sums(window), at_most, strict=True))


@given(steps=STEPS, size=st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_count_window_counts_the_last_calls(steps: Calls, size: int) -> None:
    """A window over calls holds exactly the last ones, however long ago they were."""
    window = CountWindow(size)
    _, calls = fill(window, steps)
    assert sums(window) == exact(calls[-size:])


@given(steps=STEPS)
@settings(max_examples=50, deadline=None)
def test_time_window_has_a_bounded_size(steps: Calls) -> None:
    """A window over time holds as many slices as it has, whatever the traffic."""
    window = TimeWindow(SECONDS)
    now = 1000.0
    for _ in range(3):
        now, _ = fill(window, steps, start=now)
    assert len(window._ring) <= SLICES


@pytest.mark.parametrize("old", [lambda: TimeWindow(60.0), lambda: CountWindow(50)])
@pytest.mark.parametrize("new", [lambda: TimeWindow(90.0), lambda: CountWindow(20)])
def test_window_takes_over_from_another(old: Callable[[], Window], new: Callable[[], Window]) -> None:
    """What one window saw, another of any kind goes on from."""
    before, after = old(), new()
    now, _ = fill(before, [(1.0, index % 4 == 0, index % 2 == 0) for index in range(16)])
    for item in before.slices(now):
        after.add(item)
    after.roll(now)
    assert sums(after) == (16, 4, 8)


def test_shorter_window_forgets_what_is_too_old_for_it() -> None:
    """What another window saw too long ago is not taken over."""
    old, new = TimeWindow(60.0), TimeWindow(10.0)
    now, _ = fill(old, [(1.0, True, False)] * 40)
    for item in old.slices(now):
        new.add(item)
    new.roll(now)
    assert 0 < new.calls <= 16  # ten seconds, and what shares a slice of the old one with them
