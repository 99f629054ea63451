"""What every plugin owes, owed by this one."""

from __future__ import annotations

from typing import Any

from plughost import MCPPlugin
from plughost_testing import PluginContract
from plughost_timeout import TimeoutPlugin


class TestTimeout(PluginContract):
    plugin_class = TimeoutPlugin
    config = {"attempt": "20s", "total": "30s", "tools": {"ech?": {"attempt": "10s"}}}
    invalid = {"attempt": [0, "soon"], "total": [0, "-1s"], "tools": [{"x": {"limit": 3}}], "mode": ["off"]}
    other_config = {"attempt": "15s"}
    handles = ()
    keeps_state = True

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What it counted."""
        assert isinstance(plugin, TimeoutPlugin)
        return plugin.expired
