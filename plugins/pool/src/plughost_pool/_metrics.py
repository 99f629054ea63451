"""The metrics: what pools hold, and counters of rare events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from plughost import InstanceMeter, Readings

from plughost_pool._stock import State

if TYPE_CHECKING:
    from plughost_pool._pool import Pool

meter: InstanceMeter[Pool[Any]] = InstanceMeter("plughost.pool", label="plughost.pool.name")


@meter.up_down_counter("plughost.pool.resources", "{resource}", "Resources, by pool and state.")
def resources(pool: Pool[Any]) -> Readings:
    found = {State.IDLE: 0, State.IN_USE: 0, **pool.stock.count()}  # those two also while there are none
    for state, number in found.items():
        yield number, {"plughost.pool.state": state.value}


@meter.up_down_counter("plughost.pool.waiting", "{borrower}", "Borrowers that wait, by pool.")
def waiting(pool: Pool[Any]) -> Readings:
    yield len(pool.stock.waiting), {}


_counters = metrics.get_meter("plughost.pool")
opened = _counters.create_counter("plughost.pool.opened", "{resource}", "Resources opened.")
failures = _counters.create_counter("plughost.pool.failures", "{failure}", "Resources that did not open.")
timeouts = _counters.create_counter("plughost.pool.timeouts", "{timeout}", "Borrowers that got nothing.")
leaks = _counters.create_counter("plughost.pool.leaks", "{leak}", "Resources that seem to be leaked.")
