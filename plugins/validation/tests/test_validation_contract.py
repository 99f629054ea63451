"""What every plugin owes, owed by this one."""

from __future__ import annotations

from plughost import MCPPlugin
from plughost_testing import PluginContract
from plughost_validation import ValidationPlugin


class TestValidation(PluginContract):
    """G1: when it fails itself, calls are refused; or pass, counted, where it fails open."""

    plugin_class = ValidationPlugin
    config = {"arguments": {"max_depth": 8}}
    other_config = {"arguments": {"max_depth": 9}, "formats": True}
    invalid = {
        "arguments": [{"max_depth": 0}, {"max_depth": 201}, {"max_string": 0}, {"max_size": "1 parsec"}, {"max": 1}],
        "results": [{"max_items": 0}, 5],
        "allow_uris": [["no pattern"], [7], "note://*", ["http:\\\\x"]],
        "max_schema": [0, 100_001],
        "max_steps": [0],
    }
    handles = (
        "tools/call",
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "completion/complete",
    )
    keeps_state = True

    def state_of(self, plugin: MCPPlugin) -> object:
        """What it has counted."""
        assert isinstance(plugin, ValidationPlugin)
        return plugin._refusals
