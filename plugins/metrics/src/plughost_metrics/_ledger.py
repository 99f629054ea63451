"""The ledger: every number of this process, by metric and labels. Knows neither MCP, OpenTelemetry nor Prometheus."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from uuid import uuid4

logger = logging.getLogger("plughost.metrics")

Label = str | bool | int | float
Labels = tuple[tuple[str, Label], ...]
"""Attributes of one series: pairs in the order of their names."""
OVERFLOW: Labels = (("otel.metric.overflow", True),)
"""The one series that holds whatever is beyond `max_series`; the name is the OpenTelemetry specification's."""


class Kind(StrEnum):
    """What a number means, and so how the numbers of several processes become one."""

    COUNTER = "counter"
    """Only grows; adds up."""
    UP_DOWN = "up_down"
    """An amount at this moment, such as calls in flight; adds up."""
    GAUGE = "gauge"
    """A state or ratio at this moment; the highest stands for all."""
    HISTOGRAM = "histogram"
    """A distribution; adds up."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation of a bucket, and the trace it was made in."""

    value: float
    time: float
    trace_id: str
    span_id: str


class Distribution:
    """How often values fell into each bucket. `counts[i]` is of values up to `bounds[i]`; the last of all above."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...], counts: Iterable[int] = (), total: float = 0.0) -> None:
        self.bounds = bounds
        self.counts = list(counts) or [0] * (len(bounds) + 1)
        self.total = total
        self.exemplars: dict[int, Exemplar] = {}

    def record(self, value: float) -> int:
        """Count a value; gives the bucket."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        return bucket

    def copy(self) -> Distribution:
        copy = Distribution(self.bounds, self.counts, self.total)
        copy.exemplars = dict(self.exemplars)
        return copy

    def add(self, other: Distribution) -> None:
        """Count all that another one with the same bounds counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


Value = float | Distribution


@dataclass(slots=True)
class Metric:
    """A metric as it is at one moment."""

    name: str
    kind: Kind
    unit: str = ""
    description: str = ""
    series: dict[Labels, Value] = field(default_factory=dict)


Observe = Callable[[], Iterable[tuple[Labels, float]]]


@dataclass(eq=False, slots=True)
class Buckets:
    """The distributions of one metric that have the same bounds."""

    bounds: tuple[float, ...]
    distributions: dict[Labels, Distribution] = field(default_factory=dict)


class Family:
    """All series of one metric. What does not fit into `max_series` is counted under `OVERFLOW`."""

    def __init__(self, ledger: Ledger, name: str, kind: Kind, unit: str, description: str) -> None:
        self.ledger = ledger
        self.name = name
        self.kind = kind
        self.unit = unit
        self.description = description
        self.numbers: dict[Labels, float] = {}
        self.buckets = Buckets(())
        """Those that are shown."""
        self._divisions: list[Buckets] = []
        self.observers: list[Callable[[], Observe | None]] = []
        """Each gives who tells the numbers when asked, or `None` if that one is gone."""

    def add(self, amount: float, labels: Labels) -> None:
        with self.ledger.lock:
            labels = self._bounded(labels, self.numbers)
            self.numbers[labels] = self.numbers.get(labels, 0) + amount

    def set(self, value: float, labels: Labels) -> None:
        with self.ledger.lock:
            self.numbers[self._bounded(labels, self.numbers)] = value

    def record(self, value: float, labels: Labels) -> None:
        distribution = self.distribution(labels)
        with self.ledger.lock:
            distribution.record(value)

    def distribution(self, labels: Labels, buckets: Buckets | None = None) -> Distribution:
        """The distribution of a series, to be kept and recorded into directly."""
        buckets = buckets or self.buckets
        with self.ledger.lock:
            labels = self._bounded(labels, buckets.distributions)
            found = buckets.distributions.get(labels)
            if found is None:
                found = buckets.distributions[labels] = Distribution(buckets.bounds)
            return found

    def divide(self, bounds: tuple[float, ...]) -> Buckets:
        """Show buckets of these bounds from now on, until `undivide`. Those who divide alike share the numbers.

        Others' buckets go on unseen: a change of configuration that is refused after all has changed nothing.
        """
        same = next((buckets for buckets in self._divisions if buckets.bounds == bounds), None)
        self.buckets = same or Buckets(bounds)
        self._divisions.append(self.buckets)
        return self.buckets

    def undivide(self, buckets: Buckets) -> None:
        """Show those again that the newest of the others asked for."""
        self._divisions.remove(buckets)
        if self._divisions:
            self.buckets = self._divisions[-1]

    def clear(self) -> None:
        self.numbers.clear()
        self.buckets.distributions.clear()

    def now(self) -> Metric:
        """A copy of all series, with what the observers tell."""
        series: dict[Labels, Value] = {}
        with self.ledger.lock:
            series.update(self.numbers)
            series.update((labels, found.copy()) for labels, found in self.buckets.distributions.items())
        for reference in list(self.observers):
            observe = reference()
            if observe is None:
                self.observers.remove(reference)
                continue
            try:
                told = list(observe())
            except Exception:
                logger.exception("what observes %s failed; its numbers are left out", self.name)
                continue
            for labels, value in told:
                self._tell(series, self._bounded(labels, series), value)
        return Metric(self.name, self.kind, self.unit, self.description, series)

    def _tell(self, series: dict[Labels, Value], labels: Labels, value: float) -> None:
        before = series.get(labels)
        adds_up = self.kind is not Kind.GAUGE and isinstance(before, int | float)
        series[labels] = before + value if adds_up else value  # type: ignore[operator]  # a number, as just seen

    def _bounded(self, labels: Labels, series: Mapping[Labels, object]) -> Labels:
        full = len(series) >= self.ledger.max_series - 1
        return OVERFLOW if full and labels not in series else labels


class Ledger:
    """The metrics of a process. It records while somebody has it open, and starts at zero when opened anew."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.max_series = 1000
        self._limits: dict[object, int] = {}
        self.recording = False
        self.users = 0
        """How many have it open."""
        self.era = ""
        """Names these numbers: those from a start at zero to the next."""
        self._families: dict[str, Family] = {}

    def limit(self, max_series: int) -> Callable[[], None]:
        """Set `max_series`, until what is returned is called; of several, the newest counts."""
        own = object()
        self._limits[own] = self.max_series = max_series

        def undo() -> None:
            del self._limits[own]
            self.max_series = next(reversed(self._limits.values()), self.max_series)

        return undo

    def open(self) -> None:
        if self.users == 0:
            self.era = uuid4().hex
        self.users += 1
        self.recording = True

    def close(self) -> None:
        self.users -= 1
        if self.users == 0:
            self.recording = False
            for family in self._families.values():
                family.clear()

    def family(self, name: str, kind: Kind, unit: str = "", description: str = "") -> Family | None:
        """The metric of this name, which is made if there is none; `None` if there is one of another kind."""
        found = self._families.setdefault(name.lower(), Family(self, name, kind, unit, description))
        if found.kind is not kind:
            logger.warning("the metric %s is a %s; as a %s it is not recorded", name, found.kind, kind)
            return None
        return found

    def observe(self, name: str, kind: Kind, unit: str, description: str, ask: Observe) -> Callable[[], None]:
        """Ask for the numbers of a metric whenever somebody reads it; gives what ends that."""
        family = self.family(name, kind, unit, description)
        if family is None:
            return lambda: None

        def reference() -> Observe:
            return ask

        family.observers.append(reference)
        return lambda: family.observers.remove(reference)

    def now(self) -> list[Metric]:
        """All metrics that have a number, by name."""
        metrics = [self._families[name].now() for name in sorted(self._families)]
        return [metric for metric in metrics if metric.series]


def merged(snapshots: Iterable[Iterable[Metric]]) -> list[Metric]:
    """One set of metrics out of those of several processes; the first one's histogram bounds decide."""
    result: dict[str, Metric] = {}
    for metric in (metric for snapshot in snapshots for metric in snapshot):
        into = result.setdefault(metric.name, Metric(metric.name, metric.kind, metric.unit, metric.description))
        for labels, value in metric.series.items():
            _merge(into, labels, value)
    return [result[name] for name in sorted(result)]


def _merge(into: Metric, labels: Labels, value: Value) -> None:
    before = into.series.get(labels)
    if isinstance(value, Distribution):
        if before is None:
            into.series[labels] = value.copy()
        elif isinstance(before, Distribution) and before.bounds == value.bounds:
            before.add(value)
    elif not isinstance(before, Distribution):
        highest = into.kind is Kind.GAUGE
        into.series[labels] = value if before is None else max(before, value) if highest else before + value
