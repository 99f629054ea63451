"""The three algorithms alone, against a log of every call that passed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_rate_limit._algorithms import GCRA, SLOTS, Algorithm, FixedWindow, SlidingWindow
from plughost_rate_limit._memory import judge
from plughost_rate_limit._offenders import Offenders
from plughost_rate_limit._rate import Rate

KINDS = ["sliding-window", "gcra", "fixed-window"]
START = 1_700_000_000_000_000

counts = st.integers(1, 40)
periods = st.integers(64, 5_000)
pauses = st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 12_000))
walks = st.lists(st.tuples(pauses, st.integers(1, 5)), max_size=60)


def made(kind: str, count: int, period: int, burst: int | None = None) -> Algorithm:
    rate = Rate(count, max(period, count), f"{count}/{period}us")
    if kind == "gcra":
        return GCRA(rate, burst or count)
    return SlidingWindow(rate) if kind == "sliding-window" else FixedWindow(rate)


def passed(algorithm: Algorithm, walk: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Time and cost of each call that passed; checks on the way what every step says of itself."""
    log, state, now = [], 0, START
    for pause, wanted in walk:
        now += pause
        cost = min(wanted, algorithm.most)
        look = algorithm.take(state, 0, now)
        assert look.wait == 0
        step = algorithm.take(state, cost, now)
        assert (step.wait == 0) == (cost <= look.remaining)
        if step.wait:
            assert step.state == state
            assert step.remaining == look.remaining
            assert algorithm.take(state, cost, now + step.wait).wait == 0, "the same call passes when it is told to"
            assert algorithm.take(state, cost, now + step.wait - 1).wait == 1, "and not before"
        else:
            assert step.remaining == look.remaining - cost
            assert algorithm.take(step.state, 0, now).remaining == step.remaining
            log.append((now, cost))
            state = step.state
            assert not algorithm.idle(state, now)
            assert algorithm.idle(state, now + algorithm.lifetime)
        if algorithm.idle(state, now):
            assert algorithm.take(state, cost, now)[1:] == algorithm.take(0, cost, now)[1:]
    return log


def between(log: Sequence[tuple[int, int]], after: float, until: float) -> int:
    """What passed in a time, without its first moment."""
    return sum(cost for at, cost in log if after < at <= until)


@given(counts, periods, walks)
@settings(max_examples=60, deadline=None)
def test_sliding_window_against_the_log(count: int, period: int, walk: Sequence[tuple[int, int]]) -> None:
    """Never more than the limit in any window: no slack. Refused is only who exceeds it in a window and a slot."""
    algorithm = made("sliding-window", count, period)
    assert isinstance(algorithm, SlidingWindow)
    log = passed(algorithm, walk)
    for at, _ in log:
        assert between(log, at - algorithm.rate.period, at) <= count
    now, state, done = START, 0, 0
    for pause, wanted in walk:
        now += pause
        cost = min(wanted, count)
        step = algorithm.take(state, cost, now)
        state = step.state
        if step.wait:
            wide = (SLOTS + 1) * algorithm.slot
            assert between(log[:done], now - wide, now) + cost > count
        else:
            done += 1


@given(counts, periods, walks, st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_gcra_is_a_token_bucket(count: int, period: int, walk: Sequence[tuple[int, int]], burst: int) -> None:
    """It lets through exactly what an ideal bucket of `burst` tokens does, and so `burst` plus the rate in any time."""
    algorithm = made("gcra", count, period, burst)
    assert isinstance(algorithm, GCRA)
    log = passed(algorithm, walk)
    tokens, last, expected, now = Fraction(burst), START, [], START
    for pause, wanted in walk:
        now += pause
        cost = min(wanted, burst)
        tokens = min(Fraction(burst), tokens + Fraction(now - last, algorithm.interval))
        last = now
        if tokens >= cost:
            tokens -= cost
            expected.append((now, cost))
    assert log == expected
    for begin, _ in log:
        for end, _ in log:
            if end >= begin:
                assert between(log, begin - 1, end) <= burst + (end - begin) * count / algorithm.rate.period


@given(counts, periods, walks)
@settings(max_examples=60, deadline=None)
def test_fixed_window_against_the_log(count: int, period: int, walk: Sequence[tuple[int, int]]) -> None:
    """Never more than the limit in its own window, so never more than twice the limit in any."""
    algorithm = made("fixed-window", count, period)
    log = passed(algorithm, walk)
    begin, used = None, 0
    for at, cost in log:
        if begin is None or at - begin >= algorithm.rate.period:
            begin, used = at, 0
        used += cost
        assert used <= count
        assert between(log, at - algorithm.rate.period, at) <= 2 * count


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_caller_gets_the_limit(kind: str) -> None:
    """Who takes whatever is there gets the limit in the first window, and then nearly as much in each."""
    algorithm = made(kind, 100, 60_000_000)
    walk = [(100_000, 1)] * 600 * 20
    log = passed(algorithm, walk)
    assert len([at for at, _ in log if at <= START + 100_000 * 100]) == 100
    slack = {"sliding-window": 1 / SLOTS, "gcra": 0.0, "fixed-window": 0.0}[kind]
    assert len(log) >= 20 * 100 * (1 - slack) - 1


@pytest.mark.parametrize(
    ("kind", "fewer", "left"),
    [("sliding-window", 50, 0), ("fixed-window", 50, 0), ("gcra", 50, 10), ("sliding-window", 90, 10), ("gcra", 3, 0)],
)
def test_limit_that_is_lowered(kind: str, fewer: int, left: int) -> None:
    """What was taken under a higher limit counts under a lower one: as calls, or with GCRA as a share of the time."""
    high, low = made(kind, 100, 60_000_000), made(kind, fewer, 60_000_000)
    state = 0
    for _ in range(80):
        state = high.take(state, 1, START).state
    assert low.take(state, 0, START).remaining == left
    step = low.take(state, left + 1, START)
    assert step.wait > 0
    assert low.take(state, left + 1, START + step.wait).wait == 0
    assert high.take(state, 0, START).remaining == 20


@pytest.mark.parametrize("kind", KINDS)
def test_largest_limit_is_exact(kind: str) -> None:
    """The counter of the largest limit that a config takes does not run over."""
    rate = Rate.parse("16777214/31d")
    algorithm = GCRA(rate, rate.count) if kind == "gcra" else made(kind, rate.count, rate.period)
    step = algorithm.take(0, rate.count - 1, START)
    assert (step.wait, step.remaining) == (0, 1)
    step = algorithm.take(step.state, 1, START)
    assert (step.wait, step.remaining) == (0, 0)
    assert algorithm.take(step.state, 1, START).wait > 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_verdict_of_several(steps: list[tuple[int, int]]) -> None:
    """Who refuses longest speaks; if nobody refuses, who has the least left."""
    algorithms = [made("gcra", number + 1, 60) for number in range(len(steps))]
    verdict = judge(algorithms, steps)
    assert verdict.wait == max(wait for _, wait in steps)
    if not verdict.wait:
        assert verdict.remaining == min(remaining for remaining, _ in steps)


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [("100/minute", 100, 60), ("5/second", 5, 1), (" 7 / 10s ", 7, 10), ("1/500ms", 1, 0.5), ("2/31d", 2, 2_678_400)],
)
def test_rates(text: str, count: int, seconds: float) -> None:
    """A rate is so many calls in so many seconds."""
    rate = Rate.parse(text)
    assert (rate.count, rate.period) == (count, seconds * 1_000_000)
    assert str(rate) == text.strip()


@given(st.lists(st.integers(0, 30), max_size=300))
def test_offenders_are_never_underrated(names: list[int]) -> None:
    """Memory is bounded, and a name that stays is counted at least as often as it came."""
    offenders: Offenders[int] = Offenders(size=5)
    for name in names:
        offenders.add(name)
    assert len(offenders.top(99)) <= 5
    for name, count in offenders.top(99):
        assert count >= names.count(name)
    for name in set(names):
        if names.count(name) > len(names) / 5:
            assert name in dict(offenders.top(99))
