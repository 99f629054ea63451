"""What every plugin owes, owed by this one."""

from __future__ import annotations

from plughost import MCPPlugin
from plughost_auth import AuthPlugin
from plughost_testing import PluginContract

DIGEST = "a" * 64


class TestAuth(PluginContract):
    """G1: what fails in it refuses the call, whatever the config says: it has no `fail_mode`."""

    plugin_class = AuthPlugin
    config = {
        "keys": {"ci": {"sha256": DIGEST, "scopes": ["notes:read"]}},
        "scopes": {"notes_*": ["notes:write"]},
    }
    other_config = {"keys": {"ci": {"sha256": "b" * 64}}, "cache_for": 30}
    invalid = {
        "resource": [
            "mcp.example",
            "http://mcp.example/mcp",
            "https://a@b.example",
            "https://b.example/?x=1",
            'https://b.example/"',
            "https://b.example/ä",
            "https://b.example/a b",
        ],
        "issuers": [
            {"a": {}},
            {"a": {"issuer": "http://login.example"}},
            {"a": {"issuer": "https://login.example", "algorithms": ["HS256"]}},
            {"a": {"issuer": "https://login.example", "algorithms": ["none"]}},
            {"a": {"issuer": "https://login.example", "types": []}},
            {"a": {"issuer": "https://login.example", "jwks_url": "http://login.example/keys"}},
        ],
        "keys": [{"a": {"sha256": "plain"}}, {"a": {"sha256": DIGEST, "scopes": ["two words"]}}],
        "tokens": [{"a": {"token": "short"}}],
        "required_scopes": [['quo"te']],
        "leeway": [301],
    }
    handles = ("tools/call", "prompts/get", "resources/read", "completion/complete")
    keeps_state = True

    def state_of(self, plugin: MCPPlugin) -> object:
        """The issuers, with the keys that were fetched from them."""
        assert isinstance(plugin, AuthPlugin)
        return list(plugin.authenticator.issuers)


class TestIssuers(PluginContract):
    """With an authorization server that nobody finds; it is asked for keys in the background all the while."""

    plugin_class = AuthPlugin
    config = {"resource": "https://mcp.example/mcp", "issuers": {"away": {"issuer": "http://127.0.0.1:1"}}}
    other_config = {"resource": "https://mcp.example/mcp", "issuers": {"away": {"issuer": "http://127.0.0.1:2"}}}
