"""The metrics: events stored and lost, how many wait and for how long, and whether the store is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import metrics

if TYPE_CHECKING:
    from plughost_events._plugin import EventsPlugin

_meter = metrics.get_meter("plughost.events")
stored = _meter.create_counter("plughost.events.stored", unit="{event}", description="Events written to the store.")
lost = _meter.create_counter(
    "plughost.events.lost", unit="{event}", description="Events that were not stored, since the store was away."
)
_LIVE: WeakSet[EventsPlugin] = WeakSet()


def watch(plugin: EventsPlugin) -> None:
    """Show a plugin in the gauges, until it is unwatched."""
    _gauges()
    _LIVE.add(plugin)


def unwatch(plugin: EventsPlugin) -> None:
    _LIVE.discard(plugin)


@cache
def _gauges() -> None:
    # One of each for all instances: the API never lets an observable instrument go, nor what its callback refers to.
    def gauge(name: str, description: str, value: Callable[[EventsPlugin], float], unit: str = "") -> None:
        def observe(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            del options
            for plugin in list(_LIVE):
                yield metrics.Observation(value(plugin), {"plughost.plugin": plugin.name})

        _meter.create_observable_gauge(name, [observe], unit=unit, description=description)

    gauge("plughost.events.up", "1 while events can be stored, else 0.", lambda plugin: not plugin.store.writer.reason)
    gauge("plughost.events.queued", "Events that wait to be stored.", lambda plugin: plugin.store.writer.waiting)
    gauge("plughost.events.lag", "Age of the oldest event that waits.", lambda plugin: plugin.store.writer.lag, "s")
