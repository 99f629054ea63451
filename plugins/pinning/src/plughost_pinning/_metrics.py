"""How much is approved and quarantined, as metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from plughost import InstanceMeter, Readings

if TYPE_CHECKING:
    from plughost_pinning._plugin import PinningPlugin

meter: InstanceMeter[PinningPlugin] = InstanceMeter("plughost.pinning")


@meter.up_down_counter("plughost.pinning.definitions", "{definition}", "Definitions that are listed, by state.")
def definitions(plugin: PinningPlugin) -> Readings:
    states = Counter({"approved": 0, "new": 0, "changed": 0, "renamed": 0, "unreadable": 0})
    states.update(item.state for item in plugin.ledger.entries.values())
    for state, count in states.items():
        yield count, {"plughost.pinning.state": state}
