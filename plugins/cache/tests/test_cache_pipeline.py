"""The plugin in a host, with memory alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from meters import collecting
from plughost import (
    Call,
    CallNext,
    ConfigError,
    ErrorCode,
    Host,
    Kind,
    ListChanged,
    Listing,
    MCPPlugin,
    Middleware,
    Phase,
    Principal,
    Refusal,
    Result,
    hookimpl,
)
from plughost_cache import CacheConfig, CachePlugin
from plughost_cache._body import HINT
from plughost_cache._metrics import meter
from plughost_testing import Line, Pause, ScriptedProvider, VirtualClock, make_call, make_host, text

pytestmark = pytest.mark.anyio

LEGACY, MODERN = "2025-11-25", "2026-07-28"
ANN = Principal("ann", tenant="acme")
ONE = "note://1"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


def note(words: str, *, ttl: int | None = 60_000, scope: str = "private", **more: Any) -> dict[str, Any]:
    advice = {} if ttl is None else {"ttlMs": ttl, "cacheScope": scope}
    return {"contents": [{"uri": ONE, "text": words}], **advice, **more}


class Counting(ScriptedProvider):
    """Gives advice on its lists too, and counts how often it is asked for them."""

    listed = 0
    advice: Mapping[str, Any] = {"ttlMs": 60_000, "cacheScope": "private"}

    async def list(self, kind: Kind, call: Call | None) -> Listing:
        listing = await super().list(kind, call)
        self.listed += call is not None
        return Listing(listing.entries, self.advice)


def provider(name: str = "notes") -> Counting:
    made = Counting(name, tools=["add", "search"], resources=[ONE, "note://2"])
    made.script(ONE, *(note(f"edition {number}") for number in range(1, 9)))
    made.script("search", *(text(f"found {number}") for number in range(1, 9)))
    return made


def read(uri: str = ONE, *, who: Principal | None = None, **options: Any) -> Call:
    return make_call("resources/read", {"uri": uri}, principal=who, **options)


def search(
    *,
    who: Principal | None = None,
    name: str = "search",
    protocol_version: str = MODERN,
    line: Line | None = None,
    **params: Any,
) -> Call:
    body = {"name": name, "arguments": {"q": "x"}, **params}
    return make_call("tools/call", body, principal=who, protocol_version=protocol_version, line=line)


def said(result: Mapping[str, Any]) -> str:
    items = result.get("contents") or result["content"]
    return str(items[0]["text"])


# -- what is cached (K1) ----------------------------------------------------------------------------------------------


async def test_resources_and_lists_are_kept_as_long_as_their_server_says(virtual_clock: VirtualClock) -> None:
    """By default what has `ttlMs` is asked for once in that time (K1)."""
    notes = provider()
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        assert said(await host.dispatch(read())) == said(await host.dispatch(read())) == "edition 1"
        await host.dispatch(make_call("tools/list"))
        first = await host.dispatch(make_call("tools/list"))
        assert ([tool["name"] for tool in first["tools"]], notes.listed) == (["add", "search"], 1)
        virtual_clock.advance(61)
        assert said(await host.dispatch(read())) == "edition 2"
        await host.dispatch(make_call("tools/list"))
        assert notes.listed == 2


async def test_a_tool_call_is_kept_only_where_the_operator_names_the_tool(virtual_clock: VirtualClock) -> None:
    """Other tools run each time, whatever their results say (K1)."""
    notes = provider()
    notes.script("add", text("done", ttlMs=60_000, cacheScope="public"))
    config = CacheConfig.model_validate({"tools": {"sea*": "30s"}})
    async with make_host(CachePlugin(config), providers=[notes], clock=virtual_clock) as host:
        for _ in range(3):
            await host.dispatch(search())
            await host.dispatch(search(name="add"))
        assert [item.name for item in notes.calls] == ["search", "add", "add", "add"]
        virtual_clock.advance(31)
        assert said(await host.dispatch(search())) == "found 2"


async def test_without_advice_nothing_is_kept_unless_the_operator_says(virtual_clock: VirtualClock) -> None:
    """`default_ttl` for what comes without `ttlMs`, `resources` and `lists` also for what comes with 0 (K1)."""
    for config, kept in (
        ({}, {None: False, 0: False}),
        ({"default_ttl": 9}, {None: True, 0: False}),
        ({"resources": {"note://*": 9}}, {None: True, 0: True}),
    ):
        for ttl, is_kept in kept.items():
            notes = provider()
            notes.script(ONE, note("one", ttl=ttl))
            plugin = CachePlugin(CacheConfig.model_validate(config))
            async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
                for _ in range(3):
                    await host.dispatch(read())
                assert len(notes.calls) == (1 if is_kept else 3), (config, ttl)


async def test_prompts_completions_and_custom_methods_pass(virtual_clock: VirtualClock) -> None:
    """They are none of its business; nor is `server/discover`, which no plugin inside OBSERVE sees (K1)."""
    plugin = CachePlugin()
    async with make_host(plugin, providers=[provider()], clock=virtual_clock) as host:
        for method in ("prompts/get", "completion/complete", "server/discover", "ping", "logging/setLevel"):
            assert plugin.name not in [layer["instance"] for layer in host.chain(method=method)]


async def test_what_is_handed_out_is_no_longer_good_than_it_was(virtual_clock: VirtualClock) -> None:
    """`ttlMs` of a kept answer is what is left of it; its age can be told."""
    config = CacheConfig(advertise=True)
    async with make_host(CachePlugin(config), providers=[provider()], clock=virtual_clock) as host:
        assert (await host.dispatch(read()))["ttlMs"] == 60_000
        virtual_clock.advance(20)
        again = await host.dispatch(read())
        assert (again["ttlMs"], again["_meta"][HINT]) == (40_000, {"ageMs": 20_000})
        assert again["resultType"] == "complete"
        assert again["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "plughost"


async def test_no_server_says_how_long_at_most(virtual_clock: VirtualClock) -> None:
    """`max_ttl` caps any advice."""
    notes = provider()
    notes.script(ONE, note("old", ttl=10**12), note("new"))
    async with make_host(CachePlugin(CacheConfig(max_ttl=100)), providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read())
        virtual_clock.advance(101)
        assert said(await host.dispatch(read())) == "new"


async def test_protocol_versions_have_answers_of_their_own(virtual_clock: VirtualClock) -> None:
    """What was shaped for one revision is not given to clients of the other."""
    notes = provider()
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read())
        assert said(await host.dispatch(read(protocol_version=LEGACY))) == "edition 2"
        assert "ttlMs" not in await host.dispatch(read(protocol_version=LEGACY))


# -- who gets it (K2) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        None,
        Principal("bob", tenant="acme"),
        replace(ANN, tenant="evil"),
        replace(ANN, issuer="https://elsewhere"),
        replace(ANN, roles=frozenset({"admin"})),
        replace(ANN, claims={"client_id": "another"}),
    ],
)
async def test_a_private_answer_never_crosses_callers(other: Principal | None, virtual_clock: VirtualClock) -> None:
    """Whoever differs in tenant, subject, issuer, role or credentials gets an answer of its own (K2)."""
    config = CacheConfig.model_validate({"tools": {"search": "30s"}})
    async with make_host(CachePlugin(config), providers=[provider()], clock=virtual_clock) as host:
        for make in (read, search):
            first = said(await host.dispatch(make(who=ANN)))
            assert said(await host.dispatch(make(who=other))) != first
            assert said(await host.dispatch(make(who=replace(ANN)))) == first


async def test_a_public_answer_is_shared_within_a_tenant(virtual_clock: VirtualClock) -> None:
    """`cacheScope: public` serves all callers of a tenant, and no other tenant (K2)."""
    notes = provider()
    notes.script(ONE, note("for acme", scope="public"), note("for evil", scope="public"))
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        for name in ("ann", "bob", "eve"):
            assert said(await host.dispatch(read(who=Principal(name, tenant="acme")))) == "for acme"
        for name in ("ann", "bob"):
            assert said(await host.dispatch(read(who=Principal(name, tenant="evil")))) == "for evil"
        assert len(notes.calls) == 2


async def test_a_private_answer_to_a_public_question_is_for_its_caller_alone(virtual_clock: VirtualClock) -> None:
    """Many wait for an answer that has been public so far: if it is private now, each gets its own (K2)."""
    notes = provider()

    async def personal(call: Call, _: Mapping[str, Any]) -> Result:
        assert call.principal is not None
        await anyio.sleep(1)
        return note(f"of {call.principal.subject}")

    notes.script(ONE, note("public", ttl=1000, scope="public"), personal)
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read(who=ANN))
        virtual_clock.advance(2)
        callers = [Principal(f"caller-{number}") for number in range(20)]
        answers = await asyncio.gather(*(host.dispatch(read(who=who)) for who in callers))
        assert [said(answer) for answer in answers] == [f"of {who.subject}" for who in callers]
        again = [said(await host.dispatch(read(who=who))) for who in callers]
        assert again == [f"of {who.subject}" for who in callers]
        assert len(notes.calls) == 21


async def test_an_error_about_one_caller_is_not_another_ones(virtual_clock: VirtualClock) -> None:
    """On a question that was public so far only failures of the provider are shared, and no refusal of one caller."""
    notes = provider()

    async def refuses(call: Call, _: Mapping[str, Any]) -> Result:
        await anyio.sleep(1)
        if call.principal == ANN:
            raise MCPError(INVALID_PARAMS, "not for ann")
        return note("for others", scope="public")

    notes.script(ONE, note("public", ttl=1000, scope="public"), refuses)
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read(who=ANN))
        virtual_clock.advance(2)
        bob = Principal("bob", tenant="acme")
        answers = await asyncio.gather(
            host.dispatch(read(who=ANN)), host.dispatch(read(who=bob)), return_exceptions=True
        )
        assert isinstance(answers[0], MCPError)
        assert not isinstance(answers[1], BaseException)
        assert said(answers[1]) == "for others"


class Hiding(MCPPlugin):
    """A policy: each caller sees the tools that its name says."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.filter, Phase.GUARD, methods={"tools/list"})]

    async def filter(self, call: Call, call_next: CallNext) -> Result:
        result = await call_next(call)
        assert call.principal is not None
        shown = [tool for tool in result["tools"] if tool["name"] == call.principal.subject]
        result["tools"][:] = shown  # as a careless policy would, in place
        return {**result, "cacheScope": "private"}


async def test_a_filter_stands_outside_and_filters_kept_lists_too(virtual_clock: VirtualClock) -> None:
    """What is kept is the provider's whole list: a policy's filter runs on each answer, kept or not (K3, K4)."""
    notes = provider()
    notes.advice = {"ttlMs": 60_000, "cacheScope": "public"}
    async with make_host(Hiding(name="hiding"), CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        for subject in ("add", "search", "add", "nobody"):
            call = make_call("tools/list", principal=Principal(subject))
            names = [tool["name"] for tool in (await host.dispatch(call))["tools"]]
            assert names == ([subject] if subject != "nobody" else [])
        assert notes.listed == 1


# -- what is never kept (K3, H3) --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        MCPError(INTERNAL_ERROR, "boom"),
        MCPError(INVALID_PARAMS, "no"),
        Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "slow down"),
        text("failed", isError=True),
        {"resultType": "input_required", "inputRequests": {}, "requestState": "sealed"},
        text("state", requestState="sealed"),
        {"resultType": "task", "task": {"taskId": "1"}},
    ],
    ids=["error", "invalid", "refusal", "isError", "input_required", "requestState", "task"],
)
async def test_only_complete_successes_are_kept(reply: Any, virtual_clock: VirtualClock) -> None:
    """Errors and failures (K3), questions back and their state (H3) are asked for again each time."""
    notes = provider()
    notes.script("search", reply, reply, text("fine"))
    config = CacheConfig.model_validate({"tools": {"search": "30s"}})
    async with make_host(CachePlugin(config), providers=[notes], clock=virtual_clock) as host:
        for _ in range(2):
            try:
                assert said({"content": [{"text": ""}], **await host.dispatch(search())}) != "fine"
            except MCPError:
                continue
        assert said(await host.dispatch(search())) == "fine"


@pytest.mark.parametrize("more", [{"inputResponses": {"a": {}}}, {"requestState": "sealed"}, {"task": {"ttl": 1}}])
async def test_a_part_of_a_conversation_is_neither_answered_nor_kept(more: Any, virtual_clock: VirtualClock) -> None:
    """A call that answers a question, or asks for a task, reaches the provider each time (H3)."""
    notes = provider()
    config = CacheConfig.model_validate({"tools": {"search": "30s"}})
    async with make_host(CachePlugin(config), providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(search())
        for _ in range(2):
            await host.dispatch(search(**more))
        assert len(notes.calls) == 3


async def test_what_a_client_was_asked_for_is_its_own(virtual_clock: VirtualClock) -> None:
    """An answer made of what one client said (revision 2025-11-25) is neither shared nor kept (H3)."""
    notes = provider()

    async def ask(call: Call, params: Mapping[str, Any]) -> Result:
        del params
        reply = await call.dispatch.send_raw_request("elicitation/create", {"message": "Your name?"})
        await anyio.sleep(1)
        return text(reply["content"]["name"])

    notes.script("search", ask)
    config = CacheConfig.model_validate({"tools": {"search": "30s"}})

    async def call(name: str) -> str:
        line = Line({"elicitation/create": {"action": "accept", "content": {"name": name}}})
        return said(await host.dispatch(search(protocol_version=LEGACY, line=line)))

    async with make_host(CachePlugin(config), providers=[notes], clock=virtual_clock) as host:
        assert [*await asyncio.gather(call("ann"), call("bob"))] == ["ann", "bob"]
        assert await call("cid") == "cid"


async def test_who_is_gone_is_told_nothing_more(virtual_clock: VirtualClock) -> None:
    """The one who began gives up: its line stays silent (T7), and the others' answer is not cancelled with it."""
    notes, line = provider(), Line()

    async def work(call: Call, params: Mapping[str, Any]) -> Result:
        del params
        await anyio.sleep(2)
        await call.dispatch.progress(1, 2)
        assert not call.dispatch.cancel_requested.is_set()
        return text("done")

    notes.script("search", work)
    config = CacheConfig.model_validate({"tools": {"search": "30s"}})
    async with make_host(CachePlugin(config), providers=[notes], clock=virtual_clock) as host:
        first = asyncio.create_task(host.dispatch(search(line=line, _meta={"progressToken": 1})))
        second = asyncio.create_task(host.dispatch(search(_meta={"progressToken": 2})))
        await anyio.sleep(1)
        line.cancel_requested.set()
        first.cancel()
        assert said(await second) == "done"
    assert line.sent == []


async def test_a_caller_changes_its_own_copy_alone(virtual_clock: VirtualClock) -> None:
    """Neither who caused the call, nor who waited with it, nor who came later shares anything (K4)."""
    notes = provider()
    notes.script("search", [Pause(1), text("clean")])
    config = CacheConfig.model_validate({"tools": {"search": "30s"}})
    async with make_host(CachePlugin(config), providers=[notes], clock=virtual_clock) as host:
        answers = await asyncio.gather(*(host.dispatch(search()) for _ in range(5)))
        answers.append(await host.dispatch(search()))
        for answer in answers:
            assert said(answer) == "clean"
            answer["content"][0]["text"] = "dirty"
            answer["content"].append("more")
        assert said(await host.dispatch(search())) == "clean"


async def test_two_caches_for_two_providers(virtual_clock: VirtualClock) -> None:
    """An instance may be for some targets only; the lists are those of an instance that is for all."""
    notes, other = provider(), ScriptedProvider("other", tools=["find"])
    table = {"plugin": "cache", "tools": {"*": "30s"}}
    plugins = {name: {**table, "match": {"provider": name}} for name in ("notes", "other")}
    config = {"host": {"control": False}, "plugins": plugins}
    async with make_host(providers=[notes, other], clock=virtual_clock, config=config) as host:
        for _ in range(2):
            await host.dispatch(search())
            await host.dispatch(search(name="find"))
            await host.dispatch(make_call("tools/list"))
        shown = [(await host.run_operation(name, "show"))["hits_l1"] for name in plugins]
    assert shown == [1, 1]
    assert (len(notes.calls), len(other.calls)) == (1, 1)


# -- stampedes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [read, search])
async def test_a_thousand_callers_run_one_call(make: Callable[[], Call], virtual_clock: VirtualClock) -> None:
    """Whoever asks while the answer is under way waits for it."""
    notes, plugin = provider(), CachePlugin(CacheConfig.model_validate({"tools": {"search": "30s"}}))
    notes.script(ONE, [Pause(2), note("one")])
    notes.script("search", [Pause(2), text("one")])
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        answers = await asyncio.gather(*(host.dispatch(make()) for _ in range(1000)))
        assert {said(answer) for answer in answers} == {"one"}
        assert len(notes.calls) == 1
        assert (plugin.stats.misses, plugin.stats.joined) == (1, 999)


async def test_callers_share_a_failure_too(virtual_clock: VirtualClock) -> None:
    """A provider that fails is asked once by all who wait."""
    notes = provider()
    notes.script(ONE, [Pause(1), MCPError(INTERNAL_ERROR, "down")])
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        answers = await asyncio.gather(*(host.dispatch(read()) for _ in range(50)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {"down"}
        assert len(notes.calls) == 1


async def test_what_cannot_be_kept_is_not_waited_for_twice(virtual_clock: VirtualClock) -> None:
    """A server that gives no advice is asked by each caller itself, at the same time, after the first round."""
    notes = provider()
    notes.script(ONE, [Pause(1), note("fresh", ttl=0)])
    plugin = CachePlugin()
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read())
        begin = virtual_clock.monotonic()
        await asyncio.gather(*(host.dispatch(read()) for _ in range(10)))
        assert virtual_clock.monotonic() - begin < 1.5
        assert len(notes.calls) == 11
        notes.script(ONE, note("kept"))
        for _ in range(3):
            assert said(await host.dispatch(read())) == "kept"
        assert (len(notes.calls), plugin.stats.passed) == (12, 11)


async def test_a_caller_that_gives_up_takes_nobody_with_it(virtual_clock: VirtualClock) -> None:
    """The first caller leaves; the others get their answer, of one call, and it is kept."""
    notes = provider()
    notes.script(ONE, [Pause(5), note("one")])
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        first = asyncio.ensure_future(host.dispatch(read()))
        await notes.received(1)
        others = [asyncio.ensure_future(host.dispatch(read())) for _ in range(3)]
        await anyio.sleep(1)
        first.cancel()
        assert {said(answer) for answer in await asyncio.gather(*others)} == {"one"}
        assert said(await host.dispatch(read())) == "one"
        assert len(notes.calls) == 1


# -- stale answers ----------------------------------------------------------------------------------------------------


async def test_one_fetches_anew_while_the_others_get_what_there_is(virtual_clock: VirtualClock) -> None:
    """With `stale_while_revalidate`, in the time after its end the old answer serves all but the one that asks."""
    notes = provider()
    notes.script(ONE, note("old"), [Pause(2), note("new")], note("newest"))
    plugin = CachePlugin(CacheConfig(stale_while_revalidate=30))
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read())
        virtual_clock.advance(70)
        asking = asyncio.ensure_future(host.dispatch(read()))
        await notes.received(2)
        stale = await asyncio.gather(*(host.dispatch(read()) for _ in range(5)))
        assert {(said(answer), answer["ttlMs"]) for answer in stale} == {("old", 0)}
        assert said(await asking) == said(await host.dispatch(read())) == "new"
        virtual_clock.advance(91)
        assert said(await host.dispatch(read())) == "newest"
        assert len(notes.calls) == 3


@pytest.mark.parametrize(
    ("error", "served"),
    [
        (MCPError(INTERNAL_ERROR, "boom"), "served"),
        (Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "down"), "served"),
        (Refusal(ErrorCode.CIRCUIT_OPEN, "open"), "served"),
        (MCPError(INVALID_PARAMS, "no such note"), "refused"),
        (Refusal(ErrorCode.UNAUTHORIZED, "not you"), "refused"),
    ],
)
async def test_an_old_answer_serves_when_the_provider_fails(
    error: MCPError, served: str, virtual_clock: VirtualClock
) -> None:
    """With `stale_if_error`; an answer that is an error in itself, such as a refusal, is never hidden."""
    notes = provider()
    notes.script(ONE, note("old"), error)
    plugin = CachePlugin(CacheConfig(stale_if_error=30))
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read())
        virtual_clock.advance(70)
        if served == "served":
            assert said(await host.dispatch(read())) == "old"
        else:
            with pytest.raises(MCPError, match=error.message):
                await host.dispatch(read())
        virtual_clock.advance(30)
        with pytest.raises(MCPError, match=error.message):
            await host.dispatch(read())


# -- what changes -----------------------------------------------------------------------------------------------------


async def test_a_changed_list_is_not_answered_from_before(virtual_clock: VirtualClock) -> None:
    """Whoever hears of the change and asks at once gets the new list; lists of other kinds stay."""
    notes = provider()
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(make_call("resources/list"))
        await host.dispatch(make_call("tools/list"))
        seen: list[str] = []
        listed = notes.listed

        async def fetch() -> None:
            seen.extend(tool["name"] for tool in (await host.dispatch(make_call("tools/list")))["tools"])

        def heard(_: object) -> None:
            host._spawn(fetch)

        deaf = host.subscriptions.bus.subscribe(heard)
        notes.change(Kind.TOOLS, ["only"])
        await anyio.sleep(0.5)
        assert seen == ["only"]
        await host.dispatch(make_call("resources/list"))
        assert notes.listed == listed + 1
        deaf()


async def test_an_answer_from_before_a_change_is_not_kept(virtual_clock: VirtualClock) -> None:
    """Read, change, store: what was read before the change is given to who asked then, and to nobody else."""
    notes = provider()
    notes.script(ONE, [Pause(5), note("before")], note("after"))
    plugin = CachePlugin()
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        early = asyncio.ensure_future(host.dispatch(read()))
        await notes.received(1)
        plugin.levels.give_up([f"resource:{ONE}"])
        late = asyncio.ensure_future(host.dispatch(read()))
        assert said(await late) == "after"
        assert said(await early) == "before"
        assert said(await host.dispatch(read())) == "after"
        assert len(notes.calls) == 2


async def test_an_updated_resource_is_read_anew(virtual_clock: VirtualClock, client: Any, host: Any) -> None:
    """While any client watches it; others stay."""
    notes = provider()
    notes.script("note://2", note("two"), note("two again"))
    running = await host(CachePlugin(), providers=[notes])
    watcher = await client(running)
    first = said(await running.dispatch(read()))
    await running.dispatch(read("note://2"))
    if client.mode == "legacy":
        with pytest.warns(MCPDeprecationWarning):
            await watcher.session.subscribe_resource(ONE)
        await _touched(notes)
    else:
        async with watcher.listen(resource_subscriptions=[ONE]):
            await _touched(notes)
    assert said(await running.dispatch(read())) != first
    assert said(await running.dispatch(read("note://2"))) == "two"


async def _touched(notes: ScriptedProvider) -> None:
    await anyio.sleep(0.5)
    assert ONE in notes.watched
    notes.touch(ONE)
    await anyio.sleep(0.5)


async def test_a_tool_that_is_gone_is_never_answered_from_the_cache(virtual_clock: VirtualClock) -> None:
    """Taken out of its provider's list, and also when it comes back with another meaning."""
    notes = provider()
    config = CacheConfig.model_validate({"tools": {"search": "1h"}})
    async with make_host(CachePlugin(config), providers=[notes], clock=virtual_clock) as host:
        assert said(await host.dispatch(search())) == "found 1"
        notes.change(Kind.TOOLS, ["add"])
        await anyio.sleep(0.1)
        for answer in ("found 2", "found 3"):
            assert said(await host.dispatch(search())) == answer  # its provider decides each time
        notes.change(Kind.TOOLS, ["add", {"name": "search", "inputSchema": {"type": "object"}, "title": "New"}])
        await anyio.sleep(0.1)
        assert said(await host.dispatch(search())) == "found 4"
        assert said(await host.dispatch(search())) == "found 4"


class Bringing(MCPPlugin):
    """Brings a provider that can be exchanged for another."""

    def __init__(self, *providers: ScriptedProvider) -> None:
        super().__init__(name="bringing")
        self.providers = providers

    @hookimpl
    def plughost_providers(self) -> tuple[ScriptedProvider, ...]:
        return self.providers


async def swap(host: Host, brings: Bringing, *providers: ScriptedProvider) -> None:
    """Let a plugin bring other providers, in a new generation."""
    brings.providers = providers
    await host.reload(host.config)


async def test_a_provider_that_is_gone_or_replaced_is_never_answered_for(virtual_clock: VirtualClock) -> None:
    """Another provider under the same name, with the same lists, answers itself; without one, nobody does."""
    old, new = provider(), provider()
    new.script(ONE, note("new"))
    brings = Bringing(old)
    async with make_host(CachePlugin(), brings, clock=virtual_clock) as host:
        assert said(await host.dispatch(read())) == "edition 1"
        await host.dispatch(make_call("tools/list"))
        await swap(host, brings, new)
        assert said(await host.dispatch(read())) == "new"
        await host.dispatch(make_call("tools/list"))
        assert new.listed == 1
        await swap(host, brings)
        with pytest.raises(MCPError):
            await host.dispatch(read())


async def test_a_call_that_walks_a_replaced_generation_leaves_no_trace(virtual_clock: VirtualClock) -> None:
    """A call that was held up outside the cache, and then led to the provider that was replaced, is not kept."""
    old, new = provider(), provider()
    new.script(ONE, note("new"))
    brings, held = Bringing(old), Holding()
    async with make_host(held, CachePlugin(), brings, clock=virtual_clock) as host:
        await host.dispatch(read("note://2"))
        held.open = anyio.Event()
        straggler = asyncio.ensure_future(host.dispatch(read()))
        await anyio.sleep(0.1)
        changing = asyncio.ensure_future(swap(host, brings, new))
        await anyio.sleep(0.1)
        held.open.set()
        assert said(await straggler) == "edition 1"
        await changing
        assert said(await host.dispatch(read())) == "new"


class Holding(MCPPlugin):
    """Holds calls up in GUARD until it is open."""

    def __init__(self, *, name: str = "holding") -> None:
        super().__init__(name=name)
        self.open = anyio.Event()
        self.open.set()

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.hold, Phase.GUARD)]

    async def hold(self, call: Call, call_next: CallNext) -> Result:
        await self.open.wait()
        return await call_next(call)


# -- operation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "asked_again"),
    [
        ({}, {"one", "two", "tool", "list"}),
        ({"provider": "notes"}, {"one", "two", "tool", "list"}),
        ({"provider": "other"}, {"list"}),
        ({"tool": "search"}, {"tool"}),
        ({"provider": "notes", "tool": "search"}, {"tool"}),
        ({"provider": "other", "tool": "search"}, set()),
        ({"resource": ONE}, {"one"}),
        ({"tag": "list:tools/list"}, {"list"}),
        ({"tag": "nothing"}, set()),
    ],
)
async def test_clear_gives_up_what_it_is_told(
    parameters: dict[str, str], asked_again: set[str], virtual_clock: VirtualClock
) -> None:
    """Everything, one provider, one tool, one resource, or one tag."""
    notes = provider()
    notes.script("note://2", note("two"))
    plugin = CachePlugin(CacheConfig.model_validate({"tools": {"*": "1h"}}), name="cache")
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        ask: dict[str, Callable[[], Call]] = {
            "one": read,
            "two": lambda: read("note://2"),
            "tool": search,
            "list": lambda: make_call("tools/list"),
        }
        for make in ask.values():
            await host.dispatch(make())
        report = await host.run_operation("cache", "clear", parameters)
        assert report["everywhere"]
        again = set()
        for name, make in ask.items():
            before = len(notes.calls) + notes.listed
            await host.dispatch(make())
            if len(notes.calls) + notes.listed > before:
                again.add(name)
        assert again == asked_again


async def test_clear_refuses_what_it_does_not_know(virtual_clock: VirtualClock) -> None:
    """A parameter that is misspelt clears nothing."""
    async with make_host(CachePlugin(name="cache"), providers=[provider()], clock=virtual_clock) as host:
        with pytest.raises(ConfigError, match="provder"):
            await host.run_operation("cache", "clear", {"provder": "notes"})


async def test_show_tells_what_is_kept_and_how_often_it_served(virtual_clock: VirtualClock) -> None:
    """Counts since the start, and the size now."""
    async with make_host(CachePlugin(name="cache"), providers=[provider()], clock=virtual_clock) as host:
        for _ in range(4):
            await host.dispatch(read())
        shown = await host.run_operation("cache", "show")
        assert (shown["hits_l1"], shown["misses"], shown["hit_ratio"], shown["entries"]) == (3, 1, 0.75, 1)
        assert 0 < shown["bytes"] < 2000
        assert "second_level" not in shown


async def test_a_new_config_keeps_what_fits(virtual_clock: VirtualClock) -> None:
    """Live reconfiguration drops nothing but what the new bounds or names do not allow."""
    notes = provider()
    notes.script("note://2", note("two"))
    plugin = CachePlugin(CacheConfig.model_validate({"tools": {"search": "1h"}}))
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        for make in (read, search):
            await host.dispatch(make())
        assert await plugin.reconfigure(CacheConfig(max_entries=5))
        assert said(await host.dispatch(read())) == "edition 1"
        assert said(await host.dispatch(search())) == "found 2"  # no longer named
        assert await plugin.reconfigure(CacheConfig(max_entries=1))
        await host.dispatch(read("note://2"))
        assert len(plugin.memory) == 1
        assert not await plugin.reconfigure(CacheConfig.model_validate({"url": "sqlite:///cache.db"}))


async def test_hostile_names_fill_no_memory(virtual_clock: VirtualClock) -> None:
    """Names that nobody lists leave nothing behind; so do a provider's own that are read once."""
    notes = Counting("notes", tools=["search"], templates=["note://{name}"])
    plugin = CachePlugin(CacheConfig.model_validate({"tools": {"*": "1h"}, "max_entries": 10}))
    async with make_host(plugin, providers=[notes], clock=virtual_clock) as host:
        for number in range(300):
            await host.dispatch(search(name=f"invented-{number}"))
            await host.dispatch(read(f"note://{number}"))
        assert len(plugin.memory) <= 10
        assert len(plugin.levels.tags) <= 30
        assert len(plugin.rules._groups) <= 2


async def test_a_change_that_does_not_concern_it_keeps_everything(virtual_clock: VirtualClock) -> None:
    """A plugin comes and goes, a provider asks to be listed again and has the same: what is kept stays."""
    notes = provider()
    async with make_host(CachePlugin(), providers=[notes], clock=virtual_clock) as host:
        await host.dispatch(read())
        await host.register(Holding())
        await host.dispatch(read())
        await host.unregister("holding")
        notes._listener(ListChanged(Kind.TOOLS))
        await anyio.sleep(0.1)
        assert said(await host.dispatch(read())) == "edition 1"
        assert len(notes.calls) == 1


async def test_metrics_tell_of_instances_that_are_registered(virtual_clock: VirtualClock) -> None:
    """They are observed from outside, and hold on to nobody who has left."""
    plugin = CachePlugin(name="cache")
    with collecting(meter) as collector:
        async with make_host(plugin, providers=[provider()], clock=virtual_clock) as host:
            for _ in range(3):
                await host.dispatch(read())
            levels = {"l1": 2, "l2": 0, "stale": 0, "joined": 0}
            assert collector.points() == {
                "plughost.cache.hits": {f"plugin=cache cache.level={level}": hits for level, hits in levels.items()},
                "plughost.cache.misses": {"plugin=cache cache.kept=true": 1, "plugin=cache cache.kept=false": 0},
                "plughost.cache.evictions": {"plugin=cache": 0},
                "plughost.cache.invalidations": {"plugin=cache": 0},
                "plughost.cache.entries": {"plugin=cache": 1},
                "plughost.cache.size": {"plugin=cache": plugin.memory.bytes},
            }
        assert collector.points() == {}
