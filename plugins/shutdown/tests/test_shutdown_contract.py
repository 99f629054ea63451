"""What every plugin owes, owed by this one."""

from __future__ import annotations

from typing import Any

from plughost import MCPPlugin
from plughost_shutdown import ShutdownPlugin
from plughost_testing import PluginContract


class TestShutdown(PluginContract):
    plugin_class = ShutdownPlugin
    config = {"grace": "5s", "drain_timeout": "20s"}
    other_config = {"grace": "1s"}
    handles = ()
    fails = None
    keeps_state = True

    def make(self, plugin_class: type[MCPPlugin[Any]] | None = None, **changes: Any) -> MCPPlugin[Any]:
        """An instance that has refused before."""
        plugin = super().make(plugin_class, **changes)
        assert isinstance(plugin, ShutdownPlugin)
        plugin.refused = 3
        return plugin

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """How many it has refused."""
        assert isinstance(plugin, ShutdownPlugin)
        return plugin.refused
