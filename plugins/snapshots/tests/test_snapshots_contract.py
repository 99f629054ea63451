"""What every plugin owes, owed by this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plughost import MCPPlugin
from plughost_events import EventsConfig, EventsPlugin, EventsURL
from plughost_snapshots import SnapshotsPlugin
from plughost_testing import PluginContract


class TestSnapshots(PluginContract):
    plugin_class = SnapshotsPlugin
    config = {"every": 1}
    other_config = {"every": 5, "seconds": "1h"}
    invalid = {"every": [0], "reducers": [{"nonsense": "*"}, {":f": "*"}]}
    has_middleware = False
    handles = ()
    fails = None
    keeps_state = True

    def needs(self) -> Sequence[MCPPlugin[Any]]:
        """Where the events are."""
        config = EventsConfig(url=EventsURL("memory://"), durability="sync")
        return [EventsPlugin(config, name="events")]

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What it shares, with all that is in it."""
        assert isinstance(plugin, SnapshotsPlugin)
        return plugin.snapshots
