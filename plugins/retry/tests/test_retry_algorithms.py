"""Backoff, budget and latencies alone, against exact references."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from plughost_retry import Backoff, Budget, Latencies

# -- backoff ----------------------------------------------------------------------------------------------------------


@given(
    first=st.floats(0.001, 10),
    longest=st.floats(10, 100),
    chance=st.floats(0, 1),
    tried=st.integers(1, 30),
    wanted=st.none() | st.floats(0, 10),
)
def test_backoff_is_full_jitter_under_a_doubling_ceiling(
    first: float, longest: float, chance: float, tried: int, wanted: float | None
) -> None:
    """Chance decides between nothing and a ceiling that doubles up to the longest; what was asked for comes on top."""
    delay = Backoff(first, longest, lambda: chance).delay(tried, wanted)
    assert delay is not None
    assert math.isclose(delay - (wanted or 0), chance * min(longest, first * 2 ** (tried - 1)), abs_tol=1e-6)


def test_a_longer_wait_than_the_longest_is_the_clients() -> None:
    """A provider that asks for more than `max_backoff` gets no retry."""
    assert Backoff(1, 5).delay(1, 5.001) is None
    assert Backoff(1, 5).delay(1, 5.0) is not None
    assert Backoff(1, 5).delay(1, math.inf) is None


def test_jitter_spreads() -> None:
    """Without a chance of its own, two waits are not alike, and none is above the ceiling."""
    delays = [Backoff(1, 5).delay(2) for _ in range(100)]
    assert all(delay is not None and 0 <= delay <= 2 for delay in delays)
    assert len(set(delays)) > 90


# -- budget -----------------------------------------------------------------------------------------------------------

SLICE = 10


class BudgetModel(RuleBasedStateMachine):
    """The budget against one that remembers every call and retry with its time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.budget = Budget(0.2, 3, self.now)
        self.calls: list[int] = []
        self.retries: list[int] = []

    def recent(self, times: list[int]) -> int:
        """How many are in the window: in this slice of ten seconds and the five before it."""
        return sum(int(self.now // SLICE) - time < 6 for time in times)

    @rule(seconds=st.sampled_from([0, 0.1, 1, 9.9, 10, 31, 59, 60, 61, 1000]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(times=st.integers(1, 20))
    def call(self, times: int) -> None:
        for _ in range(times):
            self.budget.earn(self.now)
            self.calls.append(int(self.now // SLICE))

    @rule()
    def retry(self) -> None:
        allowed = self.recent(self.retries) + 1 <= 3 + 0.2 * self.recent(self.calls)
        assert self.budget.spend(self.now) == allowed
        if allowed:
            self.retries.append(int(self.now // SLICE))

    @precondition(lambda self: self.retries)
    @invariant()
    def within_the_ratio(self) -> None:
        """All in all, retries are at most 20 % of the calls and the floor for each window that passed."""
        windows = (self.now - 1000) // 50 + 2
        assert len(self.retries) <= 0.2 * len(self.calls) + 3 * windows


BudgetModel.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestBudget = BudgetModel.TestCase


@given(calls=st.integers(1, 500), pause=st.floats(0, 0.1), attempts=st.integers(1, 6), floor=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_amplification_is_bounded_under_total_outage(calls: int, pause: float, attempts: int, floor: int) -> None:
    """When everything fails within a minute, the provider sees at most 1.2 times the calls, and the floor."""
    now = 0.0
    budget = Budget(0.2, floor, now)
    arrived = 0
    for _ in range(calls):
        budget.earn(now)
        arrived += 1
        for _ in range(attempts - 1):
            if not budget.spend(now):
                break
            arrived += 1
        now += pause
    assert arrived <= 1.2 * calls + floor + 1e-9


def test_what_is_not_spent_expires() -> None:
    """A day without a failure does not save up for an outage."""
    budget = Budget(0.2, 2, 0.0)
    for _ in range(1000):
        budget.earn(0.0)
    assert int(budget.left(0.0)) == 202
    assert budget.left(61.0) == 2


# -- latencies --------------------------------------------------------------------------------------------------------


@given(
    durations=st.lists(st.floats(0.0002, 5000), min_size=1, max_size=300),
    share=st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_quantiles_are_right_to_within_five_percent(durations: list[float], share: float) -> None:
    """Every quantile is as near as promised to the one of the sorted list."""
    seen = Latencies()
    for duration in durations:
        seen.add(duration)
    exact = sorted(durations)[max(0, math.ceil(share * len(durations) - 1e-9) - 1)]
    assert abs(seen.quantile(share) - exact) <= 0.0501 * exact


def test_memory_is_bounded_and_the_old_is_forgotten() -> None:
    """Durations of all sizes fit in 185 buckets; after a change the new ones soon decide."""
    seen = Latencies()
    for number in range(5000):
        seen.add(10 ** (number % 12 - 6))
    assert len(seen._buckets) <= 185
    assert seen.count < 2000
    for _ in range(20_000):
        seen.add(1.0)
    assert seen.quantile(0.99) == pytest.approx(1.0, rel=0.0501)
    assert len(seen._buckets) == 1


def test_without_calls_there_is_no_quantile() -> None:
    """Nothing is made up."""
    with pytest.raises(ValueError, match="no call"):
        Latencies().quantile(0.5)
