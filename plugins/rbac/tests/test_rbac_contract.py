"""What every plugin owes, owed by this one."""

from __future__ import annotations

from typing import Any

from plughost import MCPPlugin
from plughost_rbac import RBACPlugin
from plughost_testing import PluginContract

ALL = ["admin:access"]


class TestRBAC(PluginContract):
    """G1: where it fails itself, it refuses; or lets pass, counted, where the operator says so."""

    plugin_class = RBACPlugin
    config = {"roles": {"anonymous": {"permissions": ALL}}}
    other_config = {"roles": {"anonymous": {"permissions": ["execute:tools"]}, "x": {"permissions": ALL}}}
    invalid = {
        "roles": [
            {"a": {"permissions": ["read"]}},
            {"a": {"inherits": ["b"]}},
            {"a": {"inherits": ["a"]}},
            {"a": {"rules": [{}]}},
            {"a": {"rules": [{"allow": ALL, "deny": ALL}]}},
            {"a": {"rules": [{"allow": "read:resources", "tool": "x"}]}},
            {"a": {"rules": [{"allow": "execute:tools", "resource": "x"}]}},
            {"a": {"rules": [{"allow": "read:resources", "arguments": {"a": 1}}]}},
            {"a": {"rules": [{"allow": ALL, "arguments": {"a": {}}}]}},
            {"a": {"rules": [{"allow": ALL, "tool": ""}]}},
        ],
        "principals": [{"ada": ["nobody"]}, {"https://idp": {"ada": "nobody"}}],
        "groups": [{"g": "nobody"}],
        "writes": [["delete_*"], 5],
        "policy": [5],
        "scopes": ["all", True],
    }
    handles = ("resources/read", "tools/list", "prompts/list", "resources/list", "resources/templates/list")
    keeps_state = True

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """It has none."""
        return None
