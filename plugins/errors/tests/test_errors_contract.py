"""What every plugin owes, owed by this one."""

from __future__ import annotations

from typing import Any

from plughost import MCPPlugin
from plughost_errors import ErrorKind, ErrorsPlugin
from plughost_testing import PluginContract


class QuotaError(Exception):
    pass


class TestErrors(PluginContract):
    plugin_class = ErrorsPlugin
    config = {"internal_message": "Sorry"}
    other_config = {"internal_message": "Oh no"}
    handles = ()
    fails = None
    keeps_state = True

    def make(self, plugin_class: type[MCPPlugin[Any]] | None = None, **changes: Any) -> MCPPlugin[Any]:
        """An instance that another plugin told of its exception."""
        plugin = super().make(plugin_class, **changes)
        assert isinstance(plugin, ErrorsPlugin)
        plugin.table.add(QuotaError, ErrorKind("quota", -32005, "Quota used up", retryable=True))
        return plugin

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What it knows of that exception."""
        assert isinstance(plugin, ErrorsPlugin)
        return plugin.table.find(QuotaError())
