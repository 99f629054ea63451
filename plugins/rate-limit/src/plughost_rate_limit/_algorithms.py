"""Three ways to count, each a pure function on one integer: the state of one identity under one limit.

`take(state, cost, now)` lets a call of this cost pass or not; with cost 0 it looks. `idle(state, now)` says whether a
state means no more than 0, that of somebody who never called; it does `lifetime` after the last call. `most` is the
highest cost that can ever pass, and `numbers` is what the script of the same algorithm takes (`_lua.py`).

Time is in whole microseconds on any clock that does not go back. An integer is what keeps a million of them small, and
what makes the same arithmetic exact in Lua.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

from plughost_rate_limit._rate import Rate

SLOTS = 16
"""Parts of a sliding window."""
BITS = 24
"""Of one counter."""
COUNTER = (1 << BITS) - 1
TIME_BITS = 52
"""Of a time in microseconds, or of the number of a slot: enough until the year 2112."""
TIME = (1 << TIME_BITS) - 1
KEPT = (1 << BITS * (SLOTS + 1)) - 1


class Step(NamedTuple):
    """What one call does to one state."""

    state: int
    """The state afterwards; as it was, if the call does not pass."""
    remaining: int
    """Calls of cost 1 that pass now, after this one."""
    wait: int
    """Microseconds until the same call passes if nobody else calls; 0 if it passes now."""


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """A counter for each sixteenth of the window; the one that is leaving counts in full until it has left.

    Never more than the limit in any window, wherever it begins, for one integer an identity. The price is that a call
    comes back up to a sixteenth of the window late. The usual counter with two windows, which weights the old one by
    how much of it is left, comes back on time, and lets nearly twice the limit through when calls come in bursts.

    Sub-windows are Figma's ("An alternative approach to rate limiting", 2017). The state holds the number of the newest
    slot in its low bits and above it the counters, the newest lowest.
    """

    kind: ClassVar[str] = "sliding-window"
    rate: Rate
    slot: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "slot", -(-self.rate.period // SLOTS))

    @property
    def most(self) -> int:
        return self.rate.count

    @property
    def lifetime(self) -> int:
        return self.slot * (SLOTS + 1)

    @property
    def numbers(self) -> tuple[int, int]:
        return self.rate.count, self.slot

    def take(self, state: int, cost: int, now: int) -> Step:
        newest = now // self.slot
        counters = self._counters(state, newest)
        total = counters % COUNTER  # the sum of its digits to the base 2**24, as long as that is less than COUNTER
        left = self.rate.count - total - cost
        if left >= 0 or not cost:
            return Step(newest | (counters + cost) << TIME_BITS, max(left, 0), 0)
        return Step(
            state, max(left + cost, 0), self._frees(counters, cost - self.rate.count) + newest * self.slot - now
        )

    @staticmethod
    def _counters(state: int, newest: int) -> int:
        """The counters as of the slot `newest`."""
        counters = state >> TIME_BITS
        passed = newest - (state & TIME)
        if not counters or passed <= 0:
            return counters
        return (counters << BITS * passed) & KEPT if passed <= SLOTS else 0

    def _frees(self, counters: int, excess: int) -> int:
        """Microseconds from the start of the newest slot until enough of the oldest have left."""
        for age in range(SLOTS, -1, -1):
            counters &= (1 << BITS * age) - 1
            if counters % COUNTER + excess <= 0:
                return (SLOTS + 1 - age) * self.slot
        raise ValueError(f"a cost above {self.rate.count} never passes {self.rate}")

    def idle(self, state: int, now: int) -> bool:
        return now // self.slot - (state & TIME) > SLOTS


@dataclass(frozen=True, slots=True)
class GCRA:
    """The generic cell rate algorithm: calls come back one by one, evenly, and `burst` of them may come at once.

    Never more than `burst` and what the rate gives meanwhile, in any time. From ITU-T I.371 (Annex A, "virtual
    scheduling"): the state is the theoretical arrival time, when everything taken so far would be given back.
    """

    kind: ClassVar[str] = "gcra"
    rate: Rate
    burst: int
    interval: int = 0
    tolerance: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", -(-self.rate.period // self.rate.count))
        object.__setattr__(self, "tolerance", self.interval * self.burst)

    @property
    def most(self) -> int:
        return self.burst

    @property
    def lifetime(self) -> int:
        return self.tolerance

    @property
    def numbers(self) -> tuple[int, int]:
        return self.interval, self.tolerance

    def take(self, state: int, cost: int, now: int) -> Step:
        # Later than `tolerance` from now it can be only after a higher burst, which is in force no more.
        arrival = min(max(state, now), now + self.tolerance) + cost * self.interval
        wait = arrival - now - self.tolerance
        if wait <= 0:
            return Step(arrival, -wait // self.interval, 0)
        return Step(state, max(cost * self.interval - wait, 0) // self.interval, wait)

    def idle(self, state: int, now: int) -> bool:
        return state <= now


@dataclass(frozen=True, slots=True)
class FixedWindow:
    """A counter that starts anew when its window is over; the window of an identity begins with its first call.

    The cheapest, and the one to choose where a quota is to come back as a whole. Up to twice the limit passes in a time
    of one window across the end of another.
    """

    kind: ClassVar[str] = "fixed-window"
    rate: Rate

    @property
    def most(self) -> int:
        return self.rate.count

    @property
    def lifetime(self) -> int:
        return self.rate.period

    @property
    def numbers(self) -> tuple[int, int]:
        return self.rate.count, self.rate.period

    def take(self, state: int, cost: int, now: int) -> Step:
        begin, used = state & TIME, state >> TIME_BITS
        if not used or now - begin >= self.rate.period:
            begin, used = now, 0
        left = self.rate.count - used - cost
        if left >= 0 or not cost:
            return Step(begin | (used + cost) << TIME_BITS, max(left, 0), 0)
        return Step(state, max(left + cost, 0), begin + self.rate.period - now)

    def idle(self, state: int, now: int) -> bool:
        return now - (state & TIME) >= self.rate.period


Algorithm: TypeAlias = SlidingWindow | GCRA | FixedWindow


def algorithm(kind: str, rate: Rate, burst: int | None) -> Algorithm:
    """The algorithm of this name."""
    if kind == GCRA.kind:
        return GCRA(rate, burst or rate.count)
    return SlidingWindow(rate) if kind == SlidingWindow.kind else FixedWindow(rate)
