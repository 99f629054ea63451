"""What every plugin owes, owed by this one."""

from __future__ import annotations

from plughost import MCPPlugin
from plughost_health import HealthPlugin, State
from plughost_testing import PluginContract


class TestHealth(PluginContract):
    plugin_class = HealthPlugin
    config = {"cache": "500ms"}
    invalid = {"details_token": ["short", "changeme"], "timeout": [0], "interval": [0]}
    other_config = {"cache": "2s", "timeout": "1s"}
    has_middleware = False
    handles = ()
    fails = None
    keeps_state = True

    def state_of(self, plugin: MCPPlugin) -> object:
        """The last known state: no event tells of a change twice."""
        assert isinstance(plugin, HealthPlugin)
        plugin.state = State.DEGRADED
        return plugin.state
