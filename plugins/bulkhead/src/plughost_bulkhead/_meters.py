"""What metrics see: two gauges, read when somebody collects, and a counter of refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation


class Measured(Protocol):
    """What is asked when somebody collects."""

    def levels(self) -> Iterable[tuple[tuple[tuple[str, str], ...], int, int]]:
        """Attributes, calls in flight, calls waiting."""
        ...


watched: WeakSet[Measured] = WeakSet()
"""Whom the gauges ask. An instrument cannot be unregistered, so it must not hold a plugin."""


def _gauge(part: int) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        sums: Counter[tuple[tuple[str, str], ...]] = Counter()
        for plugin in [*watched]:
            for attributes, *levels in plugin.levels():
                sums[attributes] += levels[part]
        return [Observation(value, dict(attributes)) for attributes, value in sums.items()]

    return observe


_meter = metrics.get_meter("plughost.bulkhead")
_meter.create_observable_gauge(
    "plughost.bulkhead.in_flight", [_gauge(0)], unit="{call}", description="Calls that hold a slot."
)
_meter.create_observable_gauge(
    "plughost.bulkhead.queued", [_gauge(1)], unit="{call}", description="Calls that wait for a slot."
)
refused = _meter.create_counter(
    "plughost.bulkhead.refused", unit="{call}", description="Calls refused, by provider and reason."
)
