"""Which time limits a call has, and which of them runs out first. Knows neither MCP nor a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

REMEMBERED = 1024
"""Tool names whose limits are kept at hand; names are the clients' to invent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for one attempt, and for all attempts with the waiting between them; `None` is no limit."""

    attempt: float | None
    total: float | None
    full: float | None = field(init=False)
    """The time of an attempt if nothing before it has used some up."""

    def __post_init__(self) -> None:
        given = [limit for limit in (self.attempt, self.total) if limit is not None]
        object.__setattr__(self, "full", min(given, default=None))

    def first(self, left: float | None) -> tuple[float | None, str]:
        """Seconds until the first limit runs out, and its name; `left` of the total, `None` if it has no end."""
        if left is not None and (self.attempt is None or left < self.attempt):
            return left, "total"
        return self.attempt, "attempt"


class LimitTable:
    """The limits of each tool: those of the first glob that fits its name, in the order given, or the default."""

    def __init__(self, default: Limits, overrides: Mapping[str, Limits]) -> None:
        self.default = default
        self.overrides = dict(overrides)
        self.of_tool = lru_cache(REMEMBERED)(self._find)

    def _find(self, name: str | None) -> Limits:
        fitting = (limits for glob, limits in self.overrides.items() if fnmatchcase(name or "", glob))
        return next(fitting, self.default)
