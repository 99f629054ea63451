"""The plugin in a host: what callers see, and what they hear."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
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
    PlughostError,
    PluginError,
    PluginTable,
    Principal,
    Result,
    hookimpl,
    unknown_target,
)
from plughost_rbac import Policy, RBACConfig, RBACPlugin
from plughost_testing import RecordingMiddleware, ScriptedProvider, make_call, make_host, tool

pytestmark = pytest.mark.anyio
HostFactory = Callable[..., Awaitable[Host]]

EVERYTHING = {"admin": {"permissions": ["admin:access"]}}
METHODS = {
    Kind.TOOLS: ("tools/call", "name"),
    Kind.PROMPTS: ("prompts/get", "name"),
    Kind.RESOURCES: ("resources/read", "uri"),
}


class SignedIn(MCPPlugin):
    """Stands for a plugin that authenticates: the caller is whom a header names, with the roles it lists."""

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.sign_in, Phase.ADMIT)]

    async def sign_in(self, call: Call, call_next: CallNext) -> Result:
        if call.request is not None and (subject := call.request.headers.get("x-user")):
            call.principal = Principal(subject)
        return await call_next(call)


def notes(**more: Any) -> ScriptedProvider:
    """Some of everything."""
    return ScriptedProvider(
        "notes",
        tools=["add", "drop", "list"],
        prompts=["ask", "answer"],
        resources=["note://open/1", "note://secret/1"],
        templates=["note://open/{id}", "note://secret/{id}"],
        **more,
    )


def files() -> ScriptedProvider:
    """Another provider with a prefix."""
    return ScriptedProvider(
        "files", tools=["add", "read"], prompts=["ask"], resources=["file://1"], templates=["file://{id}"], prefix="f_"
    )


def plugin(**keys: Any) -> RBACPlugin:
    return RBACPlugin(RBACConfig.model_validate(keys), name="rbac")


def rules(*rules: Mapping[str, Any]) -> dict[str, Any]:
    return {"roles": {"r": {"rules": list(rules)}}}


ADA = Principal("ada", roles=frozenset({"r"}))


def call_of(method: str, params: Mapping[str, Any], who: Principal | None = ADA, version: str = "") -> Call:
    return make_call(method, params, principal=who, protocol_version=version or LATEST_MODERN_VERSION)


async def asked(host: Host, method: str, params: Mapping[str, Any], who: Principal | None = ADA) -> Any:
    """The answer, or what an error says: its code, message and data."""
    try:
        return await host.dispatch(call_of(method, params, who))
    except MCPError as error:
        return error.code, error.message, error.data


async def listed(host: Host, kind: Kind, who: Principal | None = ADA) -> list[str]:
    result = await host.dispatch(call_of(kind.method, {}, who))
    return [entry[kind.key] for entry in result[kind.value]]


# -- A8: one decision --------------------------------------------------------------------------------------------------


@st.composite
def some_rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = {
        "tool": ["add", "drop", "*d*", "read"],
        "prompt": ["ask", "a*"],
        "resource": ["note://*", "*secret*", "file://1", "note://open/{id}"],
    }
    covering = {"tool": "execute:tools", "prompt": "read:resources", "resource": "read:resources"}
    found = []
    for kind in draw(st.lists(st.sampled_from(sorted(names)), max_size=5)):
        effect = draw(st.sampled_from(["allow", "allow", "deny"]))
        rule: dict[str, Any] = {effect: [covering[kind]]}
        if draw(st.booleans()):
            rule[kind] = [draw(st.sampled_from(names[kind]))]
        if draw(st.booleans()):
            rule["provider"] = [draw(st.sampled_from(["notes", "files"]))]
        found.append(rule)
    return found


@settings(max_examples=40, deadline=None)
@given(
    policy=st.dictionaries(st.sampled_from(["r", "s"]), some_rules(), min_size=1), roles=st.sets(st.sampled_from("rs"))
)
async def test_what_is_listed_can_be_called_and_nothing_else(policy: dict[str, Any], roles: set[str]) -> None:
    """A8, A9: of each kind, over two providers, with prefixes; read, watched and completed alike."""
    document = {"roles": {name: {"rules": found} for name, found in policy.items()}}
    who = Principal("ada", roles=frozenset(roles))
    async with make_host(plugin(**document), providers=[notes(), files()]) as host:
        catalog = host.generation.catalog
        for kind, (method, key) in METHODS.items():
            seen = await listed(host, kind, who)
            for name in catalog.routes[kind]:
                answer = await asked(host, method, {key: name}, who)
                assert (name in seen) == isinstance(answer, dict), (kind, name, answer)
                if kind is Kind.RESOURCES:
                    watch = call_of("subscriptions/listen", {"notifications": {}}, who)
                    assert (name in seen) == await host.generation.admits(watch, name)
        for kind, type_, key in ((Kind.PROMPTS, "ref/prompt", "name"), (Kind.TEMPLATES, "ref/resource", "uri")):
            seen = await listed(host, kind, who)
            for name in catalog.routes[kind]:
                params = {"ref": {"type": type_, key: name}, "argument": {"name": "x", "value": ""}}
                answer = await asked(host, "completion/complete", params, who)
                assert (name in seen) == isinstance(answer, dict), (kind, name, answer)


@pytest.mark.parametrize("providers", [1, 2])
async def test_a_hidden_target_answers_like_a_missing_one(providers: int) -> None:
    """A8: to the letter, whatever asks for it, in a host of one provider or of several."""
    allowed = rules({"allow": "execute:tools", "tool": "add"}, {"allow": "read:resources", "resource": "note://open/*"})
    params = {
        "tools/call": ("name", "drop", "nope"),
        "prompts/get": ("name", "ask", "nope"),
        "resources/read": ("uri", "note://secret/1", "nope://1"),
    }
    async with make_host(plugin(**allowed), providers=[notes(), files()][:providers]) as host:
        for method, (key, hidden, missing) in params.items():
            answers = [await asked(host, method, {key: name, "arguments": {"x": 1}}) for name in (hidden, missing)]
            for name, answer in zip((hidden, missing), answers, strict=True):
                expected = unknown_target(method, name)
                assert answer == (expected.code, expected.message, expected.data)
        for type_, key, hidden, missing in (
            ("ref/prompt", "name", "ask", "nope"),
            ("ref/resource", "uri", "note://secret/{id}", "nope://{id}"),
        ):
            found = []
            for name in (hidden, missing):
                completing = {"ref": {"type": type_, key: name}, "argument": {"name": "id", "value": ""}}
                code, message, data = await asked(host, "completion/complete", completing)
                found.append((code, message.replace(name, "X"), str(data).replace(name, "X")))
            assert found[0] == found[1]


async def test_nothing_hidden_reaches_a_provider() -> None:
    """A8: nor does a call that is refused for its arguments."""
    provider = notes()
    allowed = rules({"allow": "execute:tools", "tool": "add", "arguments": {"n": 1}})
    async with make_host(plugin(**allowed), providers=[provider]) as host:
        await asked(host, "tools/call", {"name": "drop", "arguments": {"n": 1}})
        await asked(host, "tools/call", {"name": "add", "arguments": {"n": 2}})
        assert provider.calls == []
        await asked(host, "tools/call", {"name": "add", "arguments": {"n": 1}})
        assert [call.name for call in provider.calls] == ["add"]


@pytest.mark.parametrize(
    "ref",
    [
        {"type": "ref/resource", "name": "ask", "uri": "note://secret/{id}"},
        {"type": "ref/prompt", "name": "ask", "uri": "note://secret/{id}"},
        {"type": "ref/resource", "name": "ask"},
        {"type": "ref/prompt", "uri": "note://open/{id}"},
        {"name": "ask"},
        {"type": "ref/prompt", "name": 5},
        "ask",
        None,
    ],
)
async def test_a_completion_that_means_two_things_is_refused(ref: Any) -> None:
    """A8: no allowed name is the way to another target."""
    provider = notes()
    allowed = rules({"allow": "read:resources", "prompt": "ask"})
    async with make_host(plugin(**allowed), providers=[provider]) as host:
        params = {"ref": ref, "argument": {"name": "id", "value": ""}}
        assert isinstance(await asked(host, "completion/complete", params), tuple)
    assert provider.calls == []


async def test_a_listed_tool_may_refuse_arguments() -> None:
    """With -32015 and the names of the arguments, not with what they are (G6)."""
    allowed = rules({"allow": "execute:tools", "tool": "add", "arguments": {"folder": "open/*", "n": {"max": 3}}})
    async with make_host(plugin(**allowed), providers=[notes()]) as host:
        assert await listed(host, Kind.TOOLS) == ["add"]
        good = {"name": "add", "arguments": {"folder": "open/1", "n": 3}}
        assert isinstance(await asked(host, "tools/call", good), dict)
        for bad in ({}, {"folder": "secret/1", "n": 3}, {"folder": "open/../secret", "n": 3}, "open/1", None):
            code, message, data = await asked(host, "tools/call", {"name": "add", "arguments": bad})
            assert code == ErrorCode.UNAUTHORIZED
            assert "secret" not in message + str(data)
            assert (data["reason"], data["target"]) == ("arguments", "add")
        code, message, data = await asked(
            host, "tools/call", {"name": "add", "arguments": {"folder": "open/1", "n": 9}}
        )
        assert data["arguments"] == ["n"]
        assert message == "You may call 'add', but not with this 'n'; change it, or ask for a role that allows it"


# -- A9: deny by default -----------------------------------------------------------------------------------------------


async def test_an_empty_table_refuses_everything() -> None:
    """A9: enabled and nothing else, it shows nothing and lets nothing pass."""
    provider = notes()
    provider.script("x/custom", {"ok": True})
    async with make_host(plugin(), providers=[provider]) as host:
        for kind in Kind:
            assert await listed(host, kind) == []
        for method, (key, *_) in {"tools/call": ("name",), "resources/read": ("uri",)}.items():
            assert isinstance(await asked(host, method, {key: "add"}), tuple)
        assert await asked(host, "x/custom", {}) == (-32601, "Method not found", "x/custom")
    assert provider.calls == []


async def test_a_method_of_an_extension_needs_a_rule() -> None:
    """A9: what no permission speaks of is not open."""
    provider = notes()
    provider.script("x/custom", {"ok": True})
    allowed = rules({"allow": "admin:access", "method": "x/*"})
    async with make_host(plugin(**allowed), providers=[provider]) as host:
        assert (await asked(host, "x/custom", {}))["ok"] is True
        assert await asked(host, "y/custom", {}) == (-32601, "Method not found", "y/custom")
        assert isinstance(await asked(host, "tools/call", {"name": "add"}), tuple)


async def test_nobody_is_refused_aloud() -> None:
    """A9: who is not signed in hears so, whatever is asked for, unless there is a role for that."""
    async with make_host(plugin(roles=EVERYTHING), providers=[notes()]) as host:
        requests: dict[str, dict[str, Any]] = {
            "tools/list": {},
            "tools/call": {"name": "add"},
            "resources/read": {"uri": "nope://1"},
            "completion/complete": {"ref": {"type": "ref/prompt", "name": "ask"}},
            "x/custom": {},
        }
        for method, params in requests.items():
            code, _, data = await asked(host, method, params, None)
            assert (code, data) == (ErrorCode.UNAUTHORIZED, {"reason": "unauthenticated"})
    opened = {"anonymous": {"rules": [{"allow": "execute:tools", "tool": "list"}]}}
    async with make_host(plugin(roles=opened), providers=[notes()]) as host:
        assert await listed(host, Kind.TOOLS, None) == ["list"]
        assert isinstance(await asked(host, "tools/call", {"name": "list"}, None), dict)


async def test_rules_name_providers_and_their_own_names() -> None:
    """A9: after TRANSFORM, without the prefix that clients see."""
    allowed = rules({"allow": "execute:tools", "provider": "files", "tool": "add"})
    async with make_host(plugin(**allowed), providers=[notes(), files()]) as host:
        assert await listed(host, Kind.TOOLS) == ["f_add"]
        assert isinstance(await asked(host, "tools/call", {"name": "f_add"}), dict)
        assert isinstance(await asked(host, "tools/call", {"name": "add"}), tuple)


@given(
    hints=st.fixed_dictionaries(
        {}, optional={name: st.booleans() for name in ("readOnlyHint", "destructiveHint", "idempotentHint")}
    )
)
@settings(max_examples=10, deadline=None)
async def test_annotations_raise_no_privilege(hints: dict[str, bool]) -> None:
    """A10: whatever a tool says of itself, it is hidden from who may not call it, and no less shown to who may."""
    provider = ScriptedProvider("notes", tools=[tool("drop", annotations=hints), tool("add", annotations=hints)])
    async with make_host(plugin(**rules({"allow": "execute:tools", "tool": "add"})), providers=[provider]) as host:
        assert await listed(host, Kind.TOOLS) == ["add"]
        assert isinstance(await asked(host, "tools/call", {"name": "drop"}), tuple)


# -- answers, order, operation -----------------------------------------------------------------------------------------


async def test_what_was_permitted_is_private() -> None:
    """K3: nobody may hand a filtered list, or a resource that a rule allowed, to others."""
    provider = notes()
    public = {"contents": [], "ttlMs": 1000, "cacheScope": "public"}
    provider.script("note://open/1", public)
    async with make_host(plugin(roles={"r": EVERYTHING["admin"]}), providers=[provider]) as host:
        assert (await asked(host, "resources/read", {"uri": "note://open/1"}))["cacheScope"] == "private"
        assert (await asked(host, "tools/list", {}))["cacheScope"] == "private"


async def test_earlier_revisions_are_answered_in_their_words() -> None:
    """No key that they don't know."""
    async with make_host(plugin(**rules({"allow": "execute:tools", "tool": "add"})), providers=[notes()]) as host:
        result = await host.dispatch(call_of("tools/list", {}, version=LATEST_HANDSHAKE_VERSION))
    assert result == {"tools": [tool("add")]}


async def test_it_decides_before_anything_looks_closer() -> None:
    """A8: validation or pinning would tell that a hidden tool exists."""
    others = [RecordingMiddleware(Phase.GUARD, name=name) for name in ("pinning", "validation", "rate-limit", "a")]
    late = [RecordingMiddleware(Phase.GUARD, name="limit", after=("rbac",))]
    async with make_host(*others, *late, plugin(roles=EVERYTHING), providers=[notes()]) as host:
        names = [layer["instance"] for layer in host.chain("add")]
        assert names.index("rbac") < min(names.index(name) for name in ("pinning", "validation", "limit"))


async def test_an_instance_can_be_for_one_tenant() -> None:
    """`match` narrows it; where there are several, a call has to pass all of theirs."""
    strict = RBACPlugin(RBACConfig(), name="strict")
    lenient = plugin(roles={"authenticated": {"permissions": ["execute:tools"]}})
    async with make_host(lenient, providers=[notes()]) as host:
        await host.register(strict, PluginTable.model_validate({"plugin": "rbac", "match": {"tenant": "acme"}}))
        assert await listed(host, Kind.TOOLS, Principal("ada", tenant="acme")) == []
        assert await listed(host, Kind.TOOLS, Principal("ada", tenant="other")) == ["add", "drop", "list"]


async def test_an_instance_cannot_be_for_some_names() -> None:
    """A8: it would decide calls and not lists; rules name providers and tools themselves."""
    async with make_host(providers=[notes()]) as host:
        with pytest.raises(PluginError, match="belongs to no single provider"):
            await host.register(plugin(), PluginTable.model_validate({"match": {"provider": "notes"}}))


async def test_refusals_are_told() -> None:
    """Who, what and by which rule; arguments stay where they are (G6)."""
    log = RecordingMiddleware(name="log")
    allowed = rules({"allow": "execute:tools", "tool": "add", "arguments": {"n": 1}})
    async with make_host(log, plugin(**allowed), providers=[notes()]) as host:
        await asked(host, "tools/call", {"name": "drop", "arguments": {"n": "hush"}})
        await asked(host, "tools/call", {"name": "add", "arguments": {"n": "hush"}})
        await asked(host, "tools/call", {"name": "add"}, None)
        await anyio.wait_all_tasks_blocked()
        told = [event.details for event in log.events if event.type == EventType.REFUSED]
    assert [event["reason"] for event in told] == ["hidden", "arguments", "unauthenticated"]
    assert told[1] == {
        "method": "tools/call",
        "target": "add",
        "provider": "notes",
        "principal": "ada",
        "tenant": None,
        "reason": "arguments",
        "rules": ["roles.r.rules[0]"],
    }
    assert "hush" not in str(told)


async def test_observing_refuses_nothing() -> None:
    """What would have been refused is told once for each call, and lists are whole."""
    log = RecordingMiddleware(name="log")
    async with make_host(log, plugin(mode="observe"), providers=[notes()]) as host:
        assert await listed(host, Kind.TOOLS) == ["add", "drop", "list"]
        assert isinstance(await asked(host, "tools/call", {"name": "add"}), dict)
        assert isinstance(await asked(host, "tools/call", {"name": "add"}, None), dict)
        await anyio.wait_all_tasks_blocked()
        told = [event.type for event in log.events if event.subject == "rbac"]
    assert told.count(EventType.WOULD_REFUSE) == 2
    assert EventType.REFUSED not in told


async def test_a_failure_of_the_decision_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """G1: lists too."""
    provider = notes()
    async with make_host(plugin(roles={"r": EVERYTHING["admin"]}), providers=[provider]) as host:

        def fail(*_: Any) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(Policy, "verdict", fail)
        for method, params in {"tools/call": {"name": "add"}, "tools/list": {}}.items():
            assert (await asked(host, method, params))[0] == -32603
    assert provider.calls == []


async def test_a_new_policy_counts_at_once() -> None:
    """Nothing that the one before decided is remembered."""
    rbac = plugin(**rules({"allow": "execute:tools", "tool": "add"}))
    async with make_host(rbac, providers=[notes()]) as host:
        assert await listed(host, Kind.TOOLS) == ["add"]
        assert await rbac.reconfigure(RBACConfig.model_validate(rules({"allow": "execute:tools", "tool": "drop"})))
        assert await listed(host, Kind.TOOLS) == ["drop"]
        assert isinstance(await asked(host, "tools/call", {"name": "add"}), tuple)


async def test_a_policy_file_is_read_again_on_reload(tmp_path: Path) -> None:
    """One that is broken changes nothing; `show` says why, and health that what is in force is not what is in it."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[roles.r]\nrules = [{ allow = "execute:tools", tool = "add" }]\n')
    rbac = RBACPlugin(RBACConfig(policy=str(policy)), name="rbac")
    async with make_host(rbac, providers=[notes()]) as host:
        assert await listed(host, Kind.TOOLS) == ["add"]
        policy.write_text('[roles.r]\nrules = [{ allow = "execute:tools", tool = "drop" }]\n')
        await host.reload()
        await anyio.wait_all_tasks_blocked()
        assert await listed(host, Kind.TOOLS) == ["drop"]
        policy.write_text("[roles.r]\npermisions = []\n")
        shown = await host.run_operation("rbac", "reload")
        assert "did you mean 'permissions'" in shown["unread"]
        assert await listed(host, Kind.TOOLS) == ["drop"]
        ((_, health),) = host.health_checks
        with pytest.raises(PlughostError, match="did you mean 'permissions'"):
            await health.check()
        policy.write_text("[roles.r]\npermissions = []\n")
        await host.run_operation("rbac", "reload")
        await health.check()
        assert await listed(host, Kind.TOOLS) == []


@pytest.mark.parametrize("content", [None, "x = ", "[roles]\nr = 5", "[rols]"])
async def test_a_policy_file_that_is_none_stops_the_start(tmp_path: Path, content: str | None) -> None:
    """G2: with its name."""
    policy = tmp_path / "policy.toml"
    if content is not None:
        policy.write_text(content)
    with pytest.raises(PluginError, match=r"policy\.toml"):
        async with make_host(RBACPlugin(RBACConfig(policy=str(policy)), name="rbac")):
            pass


async def test_a_provider_that_does_not_exist_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal with a typo in it refuses nothing: the log says so, with what may have been meant."""
    typo = rules({"allow": "execute:tools"}, {"deny": "execute:tools", "provider": ["note", "files", "x*"]})
    async with make_host(plugin(**typo), providers=[notes(), files()]):
        await anyio.wait_all_tasks_blocked()
    told = [record.getMessage() for record in caplog.records if record.name == "plughost.rbac"]
    assert told == ["roles.r.rules[1] of plugin 'rbac' names 'note', which is no provider; did you mean 'notes'?"]


async def test_streams_end_when_the_policy_changes() -> None:
    """Their clients listen again, and are admitted by what counts now."""
    rbac = plugin(roles={"r": EVERYTHING["admin"]})
    async with make_host(rbac, providers=[notes()]) as host:
        uris = {"notifications": {"resourceSubscriptions": ["note://open/1"]}}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.dispatch, call_of("subscriptions/listen", uris))
            await anyio.wait_all_tasks_blocked()
            await rbac.reconfigure(RBACConfig())


async def test_a_running_host_explains() -> None:
    """By the names that clients use."""
    allowed = {**rules({"allow": "execute:tools", "provider": "files", "tool": "add"}), "principals": {"ada": "r"}}
    async with make_host(plugin(**allowed), providers=[notes(), files()]) as host:
        found = await host.run_operation("rbac", "explain", {"principal": "ada", "target": "f_add"})
        assert (found["outcome"], found["provider"], found["name"]) == ("allowed", "files", "add")
        assert (await host.run_operation("rbac", "explain", {"principal": "ada", "target": "add"}))[
            "outcome"
        ] == "hidden"
        assert (await host.run_operation("rbac", "explain", {"target": "add"}))["outcome"] == "refused"
        assert (await host.run_operation("rbac", "show"))["principals"] == {"ada": ["r"]}


async def test_it_explains_methods_by_who_serves_them() -> None:
    """As a call of one is decided: by the provider that it goes to; one that nobody serves goes nowhere."""
    provider = files()
    provider.script("x/custom", {"ok": True})
    allowed = {**rules({"allow": "admin:access", "provider": "files"}), "principals": {"ada": "r"}}
    async with make_host(plugin(**allowed), providers=[notes(), provider]) as host:
        question = {"principal": "ada", "target": "x/custom", "kind": "method"}
        found = await host.run_operation("rbac", "explain", question)
        assert (found["outcome"], found["provider"]) == ("allowed", "files")
        assert (await asked(host, "x/custom", {}))["ok"] is True
        with pytest.raises(PlughostError, match="no provider has the method 'y/custom'"):
            await host.run_operation("rbac", "explain", {**question, "target": "y/custom"})


async def test_over_http(live_host: Callable[..., Awaitable[Any]]) -> None:
    """A8: two callers at one address see and call what is theirs, in both protocol eras."""
    rules_of = {
        "reader": {"permissions": "read:resources"},
        "editor": {"rules": [{"allow": "execute:tools", "tool": "add"}], "inherits": "reader"},
    }
    rbac = plugin(roles=rules_of, principals={"ada": "editor", "bob": "reader"})
    live = await live_host(SignedIn(name="auth"), rbac, providers=[notes()])
    for mode in ("auto", "legacy"):
        seen = {}
        for user in ("ada", "bob"):
            http = httpx2.AsyncClient(headers={"x-user": user})
            async with http, Client(streamable_http_client(live.url, http_client=http), mode=mode) as client:
                seen[user] = [item.name for item in (await client.list_tools()).tools]
                assert len((await client.list_resources()).resources) == 2
                if user == "ada":
                    assert not (await client.call_tool("add", {})).is_error
                    continue
                with pytest.raises(MCPError, match="Unknown tool: add"):
                    await client.call_tool("add", {})
        assert seen == {"ada": ["add"], "bob": []}


async def test_a_listener_hears_only_of_what_it_may_read() -> None:
    """A8: URIs that are hidden are not honored, and nothing is told of them."""
    allowed = rules({"allow": "read:resources", "resource": "note://open/*"})
    async with make_host(plugin(**allowed), providers=[notes()]) as host:
        call = call_of("subscriptions/listen", {})
        assert await host.generation.admits(call, "note://open/1")
        assert not await host.generation.admits(call, "note://secret/1")
        assert not await host.generation.admits(call, "note://open/../secret/1")
