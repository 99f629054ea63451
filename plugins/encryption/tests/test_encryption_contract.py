"""What every plugin owes, owed by this one."""

from __future__ import annotations

from typing import Any

from plughost import MCPPlugin
from plughost_encryption import EncryptionPlugin, new_key
from plughost_testing import PluginContract

OLD, NEW = new_key(), new_key()
SEALED: list[bytes] = []


class TestEncryption(PluginContract):
    plugin_class = EncryptionPlugin
    config = {"keys": [OLD]}
    other_config = {"keys": [NEW, OLD]}
    invalid = {"keys": [(), ["hunter2"], ["k" * 40]], "command_timeout": [0]}
    free = ("data_keys",)
    has_middleware = False
    handles = ()
    fails = None
    keeps_state = True

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What was sealed before can be read, and the counts go on."""
        assert isinstance(plugin, EncryptionPlugin)
        if not plugin.box.sealed:
            SEALED[:] = [plugin.box.seal(b"text", context=b"")]
        return plugin.box.unseal(SEALED[0], context=b""), plugin.box.sealed
