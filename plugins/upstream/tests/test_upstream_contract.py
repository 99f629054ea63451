"""What every plugin owes, owed by this one."""

from __future__ import annotations

from typing import Any

from plughost import MCPPlugin
from plughost_testing import PluginContract
from plughost_upstream import UpstreamPlugin


class TestUpstream(PluginContract):
    plugin_class = UpstreamPlugin
    config = {"timeout": "30s"}
    other_config = {"timeout": "10s", "wait": 0}
    invalid = {"timeout": ["soon"], "retry_min": [0], "max_parked": [0]}
    has_middleware = False
    handles = ()
    fails = None
    keeps_state = True

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """The guard that looks after all child processes, old and new."""
        assert isinstance(plugin, UpstreamPlugin)
        return plugin._guard
