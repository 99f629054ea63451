"""The rows of the table: a registry of functions that measure, and the values that they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.timing import Effort, median, p10


@dataclass(frozen=True, slots=True)
class Goal:
    """What to reach: at most `limit`, or at least, if `least`."""

    limit: float
    least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table. `unit` is empty for a ratio; a line without a goal is there to compare with."""

    what: str
    value: float
    unit: str = ""
    p10: float | None = None
    goal: Goal | None = None

    @property
    def reached(self) -> bool | None:
        return self.goal.reached(self.value) if self.goal else None


def measured(what: str, values: Sequence[float], unit: str = "", goal: Goal | None = None) -> Measurement:
    """The median and the p10 of `values`."""
    return Measurement(what, median(values), unit, p10(values), goal)


@dataclass(frozen=True, slots=True)
class Row:
    """One subject of the table, and the function that measures it."""

    id: str
    title: str
    measure: Callable[[Effort], Iterable[Measurement]]


ROWS: dict[str, Row] = {}


def row(id_: str, title: str) -> Callable[[Callable[[Effort], Iterable[Measurement]]], Row]:
    """Register a function as the row `id_`."""

    def register(measure: Callable[[Effort], Iterable[Measurement]]) -> Row:
        ROWS[id_] = Row(id_, title, measure)
        return ROWS[id_]

    return register
