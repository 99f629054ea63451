"""`Rate`: so many calls per period, as a config writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
SHORT = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
MICROSECONDS = 1_000_000
MOST = 2**24 - 2
"""Calls in one period that a counter holds."""
LONGEST = 31 * 86400 * MICROSECONDS
_RATE = re.compile(r"\s*(\d+)\s*/\s*(?:(second|minute|hour|day)|(\d+)\s*(ms|s|m|h|d))\s*\Z")


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` calls in `period` microseconds. `text` is how it was written."""

    count: int
    period: int
    text: str

    @classmethod
    def parse(cls, text: str) -> Rate:
        """The rate that a text such as `100/minute` or `20/10s` stands for.

        Raises:
            ValueError: It stands for none.
        """
        found = _RATE.match(text)
        if found is None:
            raise ValueError(f"{text!r} is no rate; write for example '100/minute' or '20/10s'")
        count, unit, number, short = found.groups()
        period = UNITS[unit] * MICROSECONDS if unit else int(number) * SHORT[short]
        rate = cls(int(count), period, text.strip())
        if not 1 <= rate.count <= MOST:
            raise ValueError(f"{text!r} is none: a limit counts from 1 to {MOST:,} calls")
        if not 1_000 <= period <= LONGEST:
            raise ValueError(f"{text!r} is none: a period lasts from '1ms' to '31d'")
        if rate.count > period:
            raise ValueError(f"{text!r} is none: a limit allows at most one call each microsecond")
        return rate

    def __str__(self) -> str:
        return self.text
