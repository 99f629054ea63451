"""The metric: calls by what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import metrics

if TYPE_CHECKING:
    from plughost_dedup._plugin import DedupPlugin

_LIVE: WeakSet[DedupPlugin] = WeakSet()


def watch(plugin: DedupPlugin) -> None:
    """Count an instance in, until it is unwatched: one instrument for all, since the API never lets one go."""
    _counter()
    _LIVE.add(plugin)


def unwatch(plugin: DedupPlugin) -> None:
    _LIVE.discard(plugin)


@cache
def _counter() -> object:
    return metrics.get_meter("plughost.dedup").create_observable_counter(
        "plughost.dedup.count",
        [_observe],
        unit="{call}",
        description="Calls that may be shared: executed, joined one under way, or answered with a kept result.",
    )


def _observe(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
    del options
    for plugin in list(_LIVE):
        flights = plugin.flights
        for how, number in (("executed", flights.started), ("joined", flights.joined), ("answered", plugin.answered)):
            yield metrics.Observation(number, {"plughost.plugin": plugin.name, "plughost.dedup.how": how})
