"""The metrics: what was told, and what could not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plughost import InstanceMeter, Readings

if TYPE_CHECKING:
    from plughost_bus._plugin import BusPlugin

meter: InstanceMeter[BusPlugin] = InstanceMeter("plughost.bus")


@meter.counter("plughost.bus.messages", "{change}", "Changes and events, by direction.")
def messages(plugin: BusPlugin) -> Readings:
    for direction in ("sent", "received", "dropped"):
        yield getattr(plugin.bus.counts, direction), {"plughost.bus.direction": direction}


@meter.counter("plughost.bus.resyncs", "{resync}", "Times that clients were told to look again.")
def resyncs(plugin: BusPlugin) -> Readings:
    yield plugin.bus.counts.resyncs, {}


@meter.up_down_counter("plughost.bus.replicas", "{replica}", "Other replicas that were heard of lately.")
def replicas(plugin: BusPlugin) -> Readings:
    yield len(plugin.bus.peers), {}


@meter.counter("plughost.bus.deliveries", "{attempt}", "Attempts at webhooks, by outcome.")
def deliveries(plugin: BusPlugin) -> Readings:
    for name, webhook in plugin.deliveries.webhooks.items():
        for outcome in ("delivered", "failed", "dead"):
            yield getattr(webhook, outcome), {"plughost.bus.webhook": name, "plughost.bus.outcome": outcome}


@meter.up_down_counter("plughost.bus.queued", "{event}", "Events that wait for a webhook.")
def queued(plugin: BusPlugin) -> Readings:
    for name, webhook in plugin.deliveries.webhooks.items():
        yield webhook.queued, {"plughost.bus.webhook": name}
