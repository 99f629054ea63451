"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: anything from nothing to a ceiling that doubles each time.

    After Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): of the variants measured there
    it costs the provider the fewest calls. `first` and `longest` are seconds; `chance` gives numbers from 0 to 1.
    """

    first: float
    longest: float
    chance: Callable[[], float] = random.random

    def delay(self, tried: int, asked: float | None = None) -> float | None:
        """Seconds to wait after `tried` attempts; not less than the provider `asked` for, and a little jitter more.

        `None` if it asked for more than `longest`: a wait of that length is the client's own.
        """
        if asked is not None and asked > self.longest:
            return None
        jitter = self.chance() * min(self.longest, self.first * 2.0 ** (tried - 1))
        return jitter + (asked or 0.0)
