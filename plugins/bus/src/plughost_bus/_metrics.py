"""The metrics: what was told, and what could not be. Read when somebody collects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import metrics

if TYPE_CHECKING:
    from plughost_bus._plugin import BusPlugin

_LIVE: WeakSet[BusPlugin] = WeakSet()


def watch(plugin: BusPlugin) -> None:
    """Let the metrics tell of a plugin, until it is unwatched.

    The instruments are those of all instances, since the OpenTelemetry API never lets an observable one go.
    """
    _instruments()
    _LIVE.add(plugin)


def unwatch(plugin: BusPlugin) -> None:
    _LIVE.discard(plugin)


Reading = Iterable[tuple[float, dict[str, str]]]


@cache
def _instruments() -> tuple[object, ...]:
    meter = metrics.get_meter("plughost.bus")
    counter, gauge = meter.create_observable_counter, meter.create_observable_up_down_counter
    return (
        counter("plughost.bus.messages", [_each(_messages)], "{change}", "Changes and events, by direction."),
        counter("plughost.bus.resyncs", [_each(_resyncs)], "{resync}", "Times that clients were told to look again."),
        gauge("plughost.bus.replicas", [_each(_replicas)], "{replica}", "Other replicas that were heard of lately."),
        counter("plughost.bus.deliveries", [_each(_deliveries)], "{attempt}", "Attempts at webhooks, by outcome."),
        gauge("plughost.bus.queued", [_each(_queued)], "{event}", "Events that wait for a webhook."),
    )


def _each(read: Callable[[BusPlugin], Reading]) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
    def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for plugin in list(_LIVE):
            for value, labels in read(plugin):
                yield metrics.Observation(value, {"plughost.plugin": plugin.name, **labels})

    return observe


def _messages(plugin: BusPlugin) -> Reading:
    for direction in ("sent", "received", "dropped"):
        yield getattr(plugin.bus.counts, direction), {"plughost.bus.direction": direction}


def _resyncs(plugin: BusPlugin) -> Reading:
    yield plugin.bus.counts.resyncs, {}


def _replicas(plugin: BusPlugin) -> Reading:
    yield len(plugin.bus.peers), {}


def _deliveries(plugin: BusPlugin) -> Reading:
    for name, webhook in plugin.deliveries.webhooks.items():
        for outcome in ("delivered", "failed", "dead"):
            yield getattr(webhook, outcome), {"plughost.bus.webhook": name, "plughost.bus.outcome": outcome}


def _queued(plugin: BusPlugin) -> Reading:
    for name, webhook in plugin.deliveries.webhooks.items():
        yield webhook.queued, {"plughost.bus.webhook": name}
