"""How many retries there may be, however many calls fail."""

from __future__ import annotations

WINDOW = 60.0
"""Seconds over which calls and retries are compared."""
SLICES = 6


class Budget:
    """In any window, retries are at most `ratio` of the calls, plus `floor`.

    So a provider that fails altogether gets a fifth more calls and not three times as many, which would keep it down;
    the floor lets the few calls of a quiet host be retried at all. The idea and the default ratio are Finagle's
    `RetryBudget` (Twitter, 2016); here the floor is a number per window instead of a rate. `now` is in seconds and
    never goes back; the window moves by a sixth of its length at a time.
    """

    def __init__(self, ratio: float, floor: int, now: float) -> None:
        self.ratio = ratio
        self.floor = floor
        self._calls = [0] * SLICES
        self._retries = [0] * SLICES
        self._slice = int(now * SLICES / WINDOW)
        self._ends = now

    def earn(self, now: float) -> None:
        """Count a call."""
        if now >= self._ends:
            self._move(now)
        self._calls[-1] += 1

    def spend(self, now: float) -> bool:
        """Count a retry, if there may be another one."""
        if self.left(now) < 1:
            return False
        self._retries[-1] += 1
        return True

    def left(self, now: float) -> float:
        """How many retries there may be at this moment; less than one is none."""
        self._move(now)
        return self.floor + self.ratio * sum(self._calls) - sum(self._retries)

    def _move(self, now: float) -> None:
        current = int(now * SLICES / WINDOW)
        past = min(current - self._slice, SLICES)
        if past > 0:
            self._calls = self._calls[past:] + [0] * past
            self._retries = self._retries[past:] + [0] * past
        self._slice = current
        self._ends = (current + 1) * WINDOW / SLICES
