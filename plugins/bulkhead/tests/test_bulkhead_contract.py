"""What every plugin owes, owed by this one: with free slots, and while calls wait for slots in two limits."""

from __future__ import annotations

from typing import Any

from plughost import MCPPlugin
from plughost_bulkhead import BulkheadPlugin
from plughost_testing import PluginContract


class TestBulkhead(PluginContract):
    plugin_class = BulkheadPlugin
    config = {"max_queue": 100}
    invalid = {"limit": [0], "per": [[], ["planet"]], "weights": [{"acme": 0}], "limits": [[{"limit": 3}]]}
    other_config = {"limit": 5, "max_wait": "2s"}
    keeps_state = True

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        assert isinstance(plugin, BulkheadPlugin)
        return len(plugin._bulkhead), [item.mean for item in plugin._bulkhead._compartments.values()]


class TestCrowded(PluginContract):
    """Nearly all of its calls wait, and each needs a slot of two limits."""

    plugin_class = BulkheadPlugin
    config = {"limit": 3, "max_wait": "1h", "limits": [{"limit": 2, "per": ["tenant", "tool"]}]}
    other_config = {"limit": 3, "per": ["tool"]}
