"""The table of scores: one row per leg and revision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conformance.checks import Run


@dataclass(frozen=True, slots=True)
class Row:
    """What one leg reached at one revision."""

    leg: str
    revision: str
    run: Run
    regressions: tuple[str, ...] = ()


def table(rows: Iterable[Row]) -> list[str]:
    """The rows as lines of text, under a heading."""
    lines = [f"{'leg':<26}{'revision':<12}{'scenarios':>10}{'checks':>8}{'worse than direct':>19}"]
    lines += [
        f"{row.leg:<26}{row.revision:<12}{row.run.score:>10}{row.run.checks:>8}{len(row.regressions):>19}"
        for row in rows
    ]
    return lines
