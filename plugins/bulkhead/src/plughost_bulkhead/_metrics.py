"""The metrics: calls in flight and waiting, and a counter of refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from plughost import InstanceMeter, Readings

if TYPE_CHECKING:
    from plughost_bulkhead import BulkheadPlugin

meter: InstanceMeter[BulkheadPlugin] = InstanceMeter("plughost.bulkhead")


@meter.up_down_counter("plughost.bulkhead.in_flight", "{call}", "Calls that hold a slot.")
def in_flight(plugin: BulkheadPlugin) -> Readings:
    return ((item.in_flight, where) for item, where in plugin.labelled())


@meter.up_down_counter("plughost.bulkhead.queued", "{call}", "Calls that wait for a slot.")
def queued(plugin: BulkheadPlugin) -> Readings:
    return ((item.waiting, where) for item, where in plugin.labelled())


refused = metrics.get_meter("plughost.bulkhead").create_counter(
    "plughost.bulkhead.refused", "{call}", "Calls refused, by provider and reason."
)
