"""What every plugin owes, owed by this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plughost import MCPPlugin
from plughost_pinning import PinningPlugin
from plughost_testing import PluginContract


class TestPinning(PluginContract):
    plugin_class = PinningPlugin
    invalid = {"first_use": ["maybe"], "kinds": [["tool"]], "results": [True]}
    free = ("file",)
    handles = (
        "tools/call",
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "completion/complete",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    )
    keeps_state = True

    @pytest.fixture(autouse=True)
    def _lock_file(self, tmp_path: Path) -> None:
        type(self).config = {"file": str(tmp_path / "pins.toml")}
        type(self).other_config = {**self.config, "results": "block", "kinds": ["tools"]}

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What is pinned."""
        assert isinstance(plugin, PinningPlugin)
        return plugin.ledger.pins
