"""The metrics: events stored and lost, how many wait and for how long, and whether the store is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from plughost import InstanceMeter, Readings

if TYPE_CHECKING:
    from plughost_events._plugin import EventsPlugin

_counters = metrics.get_meter("plughost.events")
stored = _counters.create_counter("plughost.events.stored", "{event}", "Events written to the store.")
lost = _counters.create_counter(
    "plughost.events.lost", "{event}", "Events that were not stored, since the store was away."
)
meter: InstanceMeter[EventsPlugin] = InstanceMeter("plughost.events")


@meter.gauge("plughost.events.up", "", "1 while events can be stored, else 0.")
def up(plugin: EventsPlugin) -> Readings:
    yield int(not plugin.store.writer.reason), {}


@meter.up_down_counter("plughost.events.queued", "", "Events that wait to be stored.")
def queued(plugin: EventsPlugin) -> Readings:
    yield plugin.store.writer.waiting, {}


@meter.gauge("plughost.events.lag", "s", "Age of the oldest event that waits.")
def lag(plugin: EventsPlugin) -> Readings:
    yield plugin.store.writer.lag, {}
