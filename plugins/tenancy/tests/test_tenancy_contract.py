"""What every plugin owes, owed by this one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from plughost import Call, CallNext, MCPPlugin, Middleware, Phase, Principal, Result, hookimpl
from plughost_tenancy import TenancyPlugin
from plughost_testing import PluginContract


class SignedIn(MCPPlugin):
    """Stands for a plugin that authenticates."""

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.sign_in, Phase.ADMIT, before=("TenancyPlugin", "under-test"))]

    async def sign_in(self, call: Call, call_next: CallNext) -> Result:
        call.principal = Principal("ada", tenant="acme")
        return await call_next(call)


class TestTenancy(PluginContract):
    """G1: where it fails itself, it refuses; or lets pass, counted, where the operator says so."""

    plugin_class = TenancyPlugin
    config = {"tenants": {"acme": {"providers": ["stage"]}, "other": {}}}
    other_config = {"tenants": {"acme": {}}}
    invalid = {
        "header": ["x tenant", "", 5],
        "path": ["t", "/t/", "/", "/{tenant}", 5],
        "trusted_proxies": [["0.0.0.0/0"], ["::/0"], ["proxy"], "10.0.0.1/8"],
        "memberships": ["", "tenants"],
        "providers": [[""], 5],
        "tenants": [{"": {}}, {"a b": {}}, {"a/b": {}}, {"-a": {}}, {"a" * 65: {}}, {"a": {"provider": "x"}}],
    }
    handles = ("resources/read", "tools/list", "prompts/list", "resources/list", "resources/templates/list")
    keeps_state = True

    def needs(self) -> Sequence[MCPPlugin[Any]]:
        return (SignedIn(name="auth"),)

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """The sessions of earlier revisions, and whose they are."""
        assert isinstance(plugin, TenancyPlugin)
        return len(plugin.sessions)
