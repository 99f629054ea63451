"""The metric: calls by what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plughost import InstanceMeter, Readings

if TYPE_CHECKING:
    from plughost_dedup._plugin import DedupPlugin

meter: InstanceMeter[DedupPlugin] = InstanceMeter("plughost.dedup")


@meter.counter(
    "plughost.dedup.count",
    "{call}",
    "Calls that may be shared: executed, joined one under way, or answered with a kept result.",
)
def count(plugin: DedupPlugin) -> Readings:
    yield plugin.flights.started, {"plughost.dedup.how": "executed"}
    yield plugin.flights.joined, {"plughost.dedup.how": "joined"}
    yield plugin.answered, {"plughost.dedup.how": "answered"}
