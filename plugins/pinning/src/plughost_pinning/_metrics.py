"""How much is approved and quarantined, as metrics. Read when somebody collects; a call pays nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import metrics

if TYPE_CHECKING:
    from plughost_pinning._plugin import PinningPlugin

_LIVE: WeakSet[PinningPlugin] = WeakSet()


def watch(plugin: PinningPlugin) -> None:
    """Let the metrics tell of a plugin, until it is unwatched.

    The instrument is that of all instances, since the OpenTelemetry API never lets an observable one go.
    """
    _instrument()
    _LIVE.add(plugin)


def unwatch(plugin: PinningPlugin) -> None:
    _LIVE.discard(plugin)


@cache
def _instrument() -> object:
    return metrics.get_meter("plughost.pinning").create_observable_up_down_counter(
        "plughost.pinning.definitions", [_definitions], "{definition}", "Definitions that are listed, by state."
    )


def _definitions(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
    del options
    for plugin in list(_LIVE):
        states = Counter({"approved": 0, "new": 0, "changed": 0, "renamed": 0, "unreadable": 0})
        states.update(item.state for item in plugin.ledger.entries.values())
        for state, count in states.items():
            yield metrics.Observation(count, {"plughost.plugin": plugin.name, "plughost.pinning.state": state})
