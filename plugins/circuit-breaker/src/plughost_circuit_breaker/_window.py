"""What happened lately: how many calls there were, how many failed, how many were slow.

Two sliding windows, those of resilience4j: over the last seconds, in slices that leave one by one, and over the last
calls. Both cost the same whatever the traffic, and hold no more than their slices or calls. Time is handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Protocol

SLICES = 10
"""A time window forgets a tenth of itself at a time: a call counts for nine to ten tenths of it, never longer."""


class Slice(NamedTuple):
    """Calls that happened at about the same time."""

    at: float
    calls: int
    failures: int
    slow: int


class Window(Protocol):
    """The sums over what is in the window, as of the last `record` or `roll`."""

    calls: int
    failures: int
    slow: int

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call."""
        ...

    def add(self, item: Slice) -> None:
        """Count what another window saw; nothing may be older than what was counted before."""
        ...

    def roll(self, now: float) -> None:
        """Forget what is too old by now."""
        ...

    def slices(self, now: float) -> Iterator[Slice]:
        """What is in it, oldest first."""
        ...


class TimeWindow:
    """The calls of the last `seconds`."""

    __slots__ = ("_last", "_number", "_ring", "_width", "calls", "failures", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLICES
        self._number = -1
        self._last = [0, 0, 0, 0]
        self._ring: deque[list[int]] = deque()
        self.calls = self.failures = self.slow = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        if int(now / self._width) != self._number:
            self._advance(now)
        last = self._last
        last[1] += 1
        self.calls += 1
        if failed:
            last[2] += 1
            self.failures += 1
        if slow:
            last[3] += 1
            self.slow += 1

    def add(self, item: Slice) -> None:
        self._advance(item.at)
        for place, count in enumerate(item[1:], 1):
            self._last[place] += count
        self.calls += item.calls
        self.failures += item.failures
        self.slow += item.slow

    def roll(self, now: float) -> None:
        oldest = int(now / self._width) - SLICES
        while self._ring and self._ring[0][0] <= oldest:
            _, calls, failures, slow = self._ring.popleft()
            self.calls -= calls
            self.failures -= failures
            self.slow -= slow

    def slices(self, now: float) -> Iterator[Slice]:
        self.roll(now)
        for number, *counts in self._ring:
            yield Slice((number + 0.5) * self._width, *counts)

    def _advance(self, now: float) -> None:
        """Begin the slice that holds `now`, unless it is the last one already."""
        self.roll(now)
        number = int(now / self._width)
        if not self._ring or self._ring[-1][0] != number:
            self._number, self._last = number, [number, 0, 0, 0]
            self._ring.append(self._last)


class CountWindow:
    """The last `size` calls."""

    __slots__ = ("_ring", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._ring: deque[tuple[bool, bool]] = deque(maxlen=size)
        self.calls = self.failures = self.slow = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        del now
        ring = self._ring
        if len(ring) == ring.maxlen:
            old_failed, old_slow = ring[0]
            self.calls -= 1
            self.failures -= old_failed
            self.slow -= old_slow
        ring.append((failed, slow))
        self.calls += 1
        self.failures += failed
        self.slow += slow

    def add(self, item: Slice) -> None:
        for index in range(item.calls):
            self.record(item.at, failed=index < item.failures, slow=index < item.slow)

    def roll(self, now: float) -> None:
        """Nothing ages here."""

    def slices(self, now: float) -> Iterator[Slice]:
        for failed, slow in self._ring:
            yield Slice(now, 1, failed, slow)
