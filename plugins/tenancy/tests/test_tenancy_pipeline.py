"""The plugin in a host: what a tenant sees, and what it hears of others."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    Host,
    Kind,
    MCPPlugin,
    Middleware,
    Phase,
    PluginTable,
    Principal,
    Refusal,
    Result,
    hookimpl,
    unknown_target,
)
from plughost_tenancy import TenancyConfig, TenancyPlugin
from plughost_tenancy._tenant import Tenants
from plughost_testing import RecordingMiddleware, ScriptedProvider, make_call, make_host

pytestmark = pytest.mark.anyio

TENANTS = {"a": {"providers": ["a-*", "shared"]}, "b": {"providers": ["b-*", "shared"]}}


class SignedIn(MCPPlugin):
    """Stands for a plugin that authenticates: the caller is of the tenant that is set."""

    tenant = "a"

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.sign_in, Phase.ADMIT, before=("tenancy", "TenancyPlugin"))]

    async def sign_in(self, call: Call, call_next: CallNext) -> Result:
        call.principal = Principal("ada", tenant=self.tenant)
        return await call_next(call)


def plugin(**keys: Any) -> TenancyPlugin:
    return TenancyPlugin(TenancyConfig.model_validate(keys), name="tenancy")


def provider(name: str) -> ScriptedProvider:
    """One of everything, called like itself."""
    return ScriptedProvider(
        name,
        tools=["add"],
        prompts=["ask"],
        resources=[f"{name}://1"],
        templates=[f"{name}://{{id}}"],
        prefix=f"{name}_",
        instructions=f"Instructions of {name}.",
    )


def providers() -> list[ScriptedProvider]:
    return [provider("a-notes"), provider("shared"), provider("b-notes")]


def call_of(method: str, params: dict[str, Any], tenant: str | None, version: str = LATEST_MODERN_VERSION) -> Call:
    call = make_call(method, params, protocol_version=version)
    if tenant is not None:
        call.principal = Principal("ada", tenant=tenant)
    return call


async def asked(host: Host, method: str, params: dict[str, Any], tenant: str | None) -> Any:
    """The answer, or what an error says."""
    try:
        return await host.dispatch(call_of(method, params, tenant))
    except MCPError as error:
        return error.code, error.message, error.data


def requests(name: str) -> dict[str, dict[str, Any]]:
    """What can be asked of a provider."""
    return {
        "tools/call": {"name": f"{name}_add", "arguments": {}},
        "prompts/get": {"name": f"{name}_ask"},
        "resources/read": {"uri": f"{name}://1"},
        "completion/complete": {
            "ref": {"type": "ref/resource", "uri": f"{name}://{{id}}"},
            "argument": {"name": "id", "value": ""},
        },
    }


@pytest.mark.parametrize("kind", list(Kind))
async def test_lists_hold_what_a_tenant_sees(kind: Kind) -> None:
    """A8: its own providers, and those that it shares."""
    async with make_host(plugin(tenants=TENANTS), providers=providers()) as host:
        for tenant, own in (("a", "a-notes"), ("b", "b-notes")):
            result = await asked(host, kind.method, {}, tenant)
            names = [entry[kind.key] for entry in result[kind.value]]
            assert len(names) == 2
            assert all(name.startswith((own, "shared")) for name in names)
            assert result["cacheScope"] == "private"


async def test_what_is_hidden_answers_like_what_is_missing() -> None:
    """A8: whatever is asked of another tenant's provider; and nothing arrives there."""
    found = providers()
    async with make_host(plugin(tenants=TENANTS), providers=found) as host:
        for (method, hidden), missing, shared in zip(
            requests("b-notes").items(), requests("c-notes").values(), requests("shared").values(), strict=True
        ):
            answer = await asked(host, method, hidden, "a")
            assert str(answer).replace("b-notes", "X") == str(await asked(host, method, missing, "a")).replace(
                "c-notes", "X"
            )
            assert isinstance(await asked(host, method, shared, "a"), dict)
        watch = call_of("subscriptions/listen", {}, "a")
        assert await host.generation.admits(watch, "a-notes://1")
        assert not await host.generation.admits(watch, "b-notes://1")
    assert found[2].calls == []


async def test_what_is_hidden_gets_as_far_as_what_is_missing() -> None:
    """A8: a limit further in counts neither, so that none tells by running out which of them there is."""
    inner = RecordingMiddleware(Phase.GUARD, name="zz-limit")
    found = providers()
    found[2].script("b/custom", {"ok": True})
    async with make_host(plugin(tenants=TENANTS), inner, providers=found) as host:
        for name in ("b-notes", "c-notes"):
            for method, params in requests(name).items():
                await asked(host, method, params, "a")
            assert not await host.generation.admits(call_of("subscriptions/listen", {}, "a"), f"{name}://1")
        for method in ("b/custom", "c/custom"):
            await asked(host, method, {}, "a")
    assert inner.records == []


async def test_what_a_tenant_gets_is_private() -> None:
    """K3: what a provider gives to everybody is not for a cache between two tenants, with views or without."""
    found = providers()
    found[1].script("shared://1", {"contents": [], "ttlMs": 1000, "cacheScope": "public"})
    for keys in ({}, {"tenants": TENANTS}):
        async with make_host(plugin(**keys), providers=found) as host:
            for method, params in {"resources/read": {"uri": "shared://1"}, "tools/list": {}}.items():
                assert (await asked(host, method, params, "a"))["cacheScope"] == "private"


async def test_methods_of_extensions_are_hidden_too() -> None:
    """A8: as if nobody served them."""
    found = providers()
    found[2].script("b/custom", {"ok": True})
    async with make_host(plugin(tenants=TENANTS), providers=found) as host:
        assert (await asked(host, "b/custom", {}, "b"))["ok"] is True
        assert await asked(host, "b/custom", {}, "a") == (-32601, "Method not found", "b/custom")
        assert (await asked(host, "x/custom", {}, "a"))[:2] == (-32601, "Method not found")


async def test_a_log_level_is_set_for_ones_own_providers() -> None:
    """A tenant does not change what another's provider tells."""
    found = providers()
    async with make_host(plugin(tenants=TENANTS), providers=found) as host:
        await host.dispatch(call_of("logging/setLevel", {"level": "debug"}, "a", LATEST_HANDSHAKE_VERSION))
    assert [[call.method for call in item.calls] for item in found] == [["logging/setLevel"], ["logging/setLevel"], []]


class NoLevels(MCPPlugin):
    """Stands for a plugin that refuses."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.refuse, Phase.GUARD, methods={"logging/setLevel"})]

    async def refuse(self, call: Call, call_next: CallNext) -> Result:
        raise Refusal(ErrorCode.UNAUTHORIZED, "no")


async def test_who_may_not_set_a_log_level_sets_none() -> None:
    """A9: other guards are asked before the providers that the tenant sees are told."""
    found = providers()
    async with make_host(plugin(tenants=TENANTS), NoLevels(name="zz-refuses"), providers=found) as host:
        with pytest.raises(MCPError, match="no"):
            await host.dispatch(call_of("logging/setLevel", {"level": "debug"}, "a", LATEST_HANDSHAKE_VERSION))
    assert [item.calls for item in found] == [[], [], []]


async def test_the_tenant_is_what_others_read() -> None:
    """Plugins further in find it in the principal, also where nobody authenticated one; `match` goes by it."""
    inner = RecordingMiddleware(Phase.PROTECT, name="inner")
    only_a = RecordingMiddleware(Phase.PROTECT, name="only-a")
    async with make_host(plugin(), inner, providers=providers()) as host:
        await host.register(only_a, PluginTable.model_validate({"match": {"tenant": "a"}}))
        for tenant in ("a", "b"):
            await asked(host, "tools/list", {}, tenant)
    assert [record.principal for record in inner.records] == [
        Principal("ada", tenant="a"),
        Principal("ada", tenant="b"),
    ]
    assert [record.principal for record in only_a.records] == [Principal("ada", tenant="a")]


async def test_without_a_tenant_nothing_is_answered() -> None:
    """-32018, whatever is asked; and the refusal is told without arguments (G6)."""
    log = RecordingMiddleware(name="log")
    found = providers()
    async with make_host(log, plugin(), providers=found) as host:
        for method, params in {**requests("a-notes"), "tools/list": {}, "subscriptions/listen": {}, "x/y": {}}.items():
            code, message, _ = await asked(host, method, {**params, "secret": 1}, None)
            assert (code, "names no tenant" in message) == (ErrorCode.TENANT_REQUIRED, True)
        await anyio.wait_all_tasks_blocked()
        told = [event.details for event in log.events if event.type == EventType.REFUSED]
    assert len(told) == 7
    assert told[0] == {"method": "tools/call", "principal": None, "reason": "missing"}
    assert [item.calls for item in found] == [[], [], []]


async def test_observing_refuses_nothing_and_hides_nothing() -> None:
    """What would have been is told."""
    log = RecordingMiddleware(name="log")
    async with make_host(log, plugin(mode="observe", tenants=TENANTS), providers=providers()) as host:
        assert isinstance(await asked(host, "tools/call", {"name": "b-notes_add"}, "a"), dict)
        assert len((await asked(host, "tools/list", {}, None))["tools"]) == 3
        await anyio.wait_all_tasks_blocked()
    told = [event.type for event in log.events if event.subject == "tenancy"]
    assert told == [EventType.PLUGIN_REGISTERED, EventType.WOULD_REFUSE]


async def test_a_failure_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """G1: also where only the view fails."""

    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    async with make_host(plugin(tenants=TENANTS), providers=providers()) as host:
        monkeypatch.setattr(Tenants, "of", fail)
        assert (await asked(host, "tools/list", {}, "a"))[0] == -32603
        monkeypatch.undo()
        monkeypatch.setattr("plughost_tenancy._tenant.View.sees", fail)
        for method, params in {"tools/list": {}, **requests("a-notes")}.items():
            assert (await asked(host, method, params, "a"))[0] == -32603


async def test_a_new_config_counts_at_once() -> None:
    """In place; sessions stay whose they are."""
    tenancy = plugin(tenants=TENANTS)
    async with make_host(tenancy, providers=providers()) as host:
        assert await tenancy.reconfigure(TenancyConfig.model_validate({"tenants": {"a": {"providers": ["b-notes"]}}}))
        assert isinstance(await asked(host, "tools/call", {"name": "b-notes_add"}, "a"), dict)
        expected = unknown_target("tools/call", "a-notes_add")
        assert (await asked(host, "tools/call", {"name": "a-notes_add"}, "a"))[1] == expected.message
        assert (await asked(host, "tools/list", {}, "b"))[2] == {"reason": "unknown"}


async def test_show_tells_who_sees_what() -> None:
    """By the names of the providers that there are."""
    async with make_host(plugin(tenants=TENANTS), providers=providers()) as host:
        shown = await host.run_operation("tenancy", "show")
    assert shown["tenants"] == {
        "a": {"providers": ["a-notes", "shared"]},
        "b": {"providers": ["shared", "b-notes"]},
    }
    assert shown["others"] is None


async def test_a_session_is_its_tenants() -> None:
    """H1: on any transport; the next call of another tenant finds no session."""
    tenancy, auth = plugin(), SignedIn()
    async with make_host(auth, tenancy, providers=providers()) as host, Client(host.front, mode="legacy") as client:
        assert len((await client.list_tools()).tools) == 3
        assert len(tenancy.sessions) == 1
        auth.tenant = "b"
        with pytest.raises(MCPError, match="Session not found"):
            await client.list_tools()
        auth.tenant = "a"
        assert len((await client.list_tools()).tools) == 3
