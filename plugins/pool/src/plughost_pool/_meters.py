"""What metrics see: gauges, read when somebody collects, and counters of rare events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from plughost_pool._stock import State

if TYPE_CHECKING:
    from plughost_pool._pool import Pool

watched: WeakSet[Pool[Any]] = WeakSet()
"""Whom the gauges ask. An instrument cannot be unregistered, so it must not hold a pool."""


def resources(_: CallbackOptions) -> Iterable[Observation]:
    """Resources by pool and state."""
    found: Counter[tuple[str, str]] = Counter()
    for pool in [*watched]:
        count = pool.stock.count()
        for state in (*count, State.IDLE, State.IN_USE):  # those two also while there are none
            found.setdefault((pool.name, state.value), 0)
        for state, number in count.items():
            found[pool.name, state.value] += number
    return [
        Observation(number, {"plughost.pool.name": name, "plughost.pool.state": state})
        for (name, state), number in found.items()
    ]


def borrowers(_: CallbackOptions) -> Iterable[Observation]:
    """Borrowers that wait, by pool."""
    found: Counter[str] = Counter()
    for pool in [*watched]:
        found[pool.name] += len(pool.stock.waiting)
    return [Observation(number, {"plughost.pool.name": name}) for name, number in found.items()]


_meter = metrics.get_meter("plughost.pool")
_meter.create_observable_gauge(
    "plughost.pool.resources", [resources], unit="{resource}", description="Resources, by pool and state."
)
_meter.create_observable_gauge(
    "plughost.pool.waiting", [borrowers], unit="{borrower}", description="Borrowers that wait, by pool."
)
opened = _meter.create_counter("plughost.pool.opened", unit="{resource}", description="Resources opened.")
failures = _meter.create_counter("plughost.pool.failures", unit="{failure}", description="Resources that did not open.")
timeouts = _meter.create_counter("plughost.pool.timeouts", unit="{timeout}", description="Borrowers that got nothing.")
leaks = _meter.create_counter("plughost.pool.leaks", unit="{leak}", description="Resources that seem to be leaked.")
