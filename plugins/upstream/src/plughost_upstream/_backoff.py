"""Pauses between attempts: exponential, with jitter, so that many hosts do not come back at once."""

from __future__ import annotations

import random


class Backoff:
    """Each pause is twice as long as the one before, up to `longest`, less up to half of it at random."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = min(first, longest)
        self._longest = longest
        self._next = self._first

    def pause(self) -> float:
        """The next pause, in seconds."""
        bound, self._next = self._next, min(self._next * 2, self._longest)
        return random.uniform(bound / 2, bound)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        """Start again with the first pause."""
        self._next = self._first
