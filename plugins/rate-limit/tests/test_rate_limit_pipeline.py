"""The plugin in the pipeline: who is told what, and whose bucket it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import MCPError
from plughost import Call, ErrorCode, EventType, Host, Phase, Principal, Result
from plughost_rate_limit import META, RateLimitConfig, RateLimitPlugin
from plughost_rate_limit._identity import describe, digest, labels, parse
from plughost_redis import BackendUnavailable
from plughost_testing import (
    ClientFactory,
    HostFactory,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
)
from starlette.requests import Request

pytestmark = pytest.mark.anyio

ALICE = Principal("alice", "https://issuer.example", "acme")


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def notes() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["add", "search_all"], prompts=["ask"], resources=["note://1", "note://2"])


def limiter(name: str = "rate-limit", **config: Any) -> RateLimitPlugin:
    return RateLimitPlugin(RateLimitConfig.model_validate(config), name=name)


def tool(name: str = "add", who: Principal | None = None, address: str | None = None) -> Call:
    call = make_call("tools/call", {"name": name, "arguments": {}}, principal=who)
    if address is not None:
        call.request = Request({"type": "http", "headers": [], "client": (address, 4711)})
    return call


async def passes(host: Host, call: Call) -> bool:
    try:
        await host.dispatch(call)
    except MCPError as error:
        if error.code != ErrorCode.RATE_LIMIT_EXCEEDED:
            raise
        return False
    return True


async def quota(host: Host, who: Principal | None = None, address: str | None = None, name: str = "add") -> int:
    """How many calls of this caller pass."""
    passed = 0
    while await passes(host, tool(name, who, address)):
        passed += 1
    return passed


# ---------------------------------------------------------------------------------------------------------------------
# What the caller reads
# ---------------------------------------------------------------------------------------------------------------------


async def test_refusal(host: HostFactory, client: ClientFactory, notes: ScriptedProvider) -> None:
    """Beyond the limit the client reads which it is, what is left, and when to come back; the provider is not asked."""
    caller = await client(await host(limiter(limit="2/minute", algorithm="fixed-window"), providers=[notes]))
    for _ in range(2):
        await caller.call_tool("add", {})
    with pytest.raises(MCPError, match=r"rate limit of 2/minute is used up; try again in 60 s") as caught:
        await caller.call_tool("add", {})
    assert caught.value.code == ErrorCode.RATE_LIMIT_EXCEEDED
    assert caught.value.data == {"limit": "2/minute", "remaining": 0, "retryAfterMs": 60_000}
    assert len(notes.calls) == 2


@pytest.mark.parametrize("algorithm", ["sliding-window", "gcra", "fixed-window"])
async def test_time_to_wait_is_exact(
    algorithm: str, host: HostFactory, notes: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """After `retryAfterMs` the same call passes, and a millisecond before it does not."""
    limits = ["3/second", "7/minute"]
    running = await host(limiter(limit=limits, algorithm=algorithm, cost={"search_*": 2}), providers=[notes])
    for _ in range(4):
        while True:
            try:
                await running.dispatch(tool("search_all"))
            except MCPError as error:
                wait = error.data["retryAfterMs"]
                break
        virtual_clock.advance(wait / 1000 - 0.001)
        assert not await passes(running, tool("search_all"))
        virtual_clock.advance(0.001)
        assert await passes(running, tool("search_all"))


async def test_advertised(host: HostFactory, client: ClientFactory, notes: ScriptedProvider) -> None:
    """With `advertise` each result tells what is left, beside what the provider says, whose own copy stays as it is."""
    answer: Mapping[str, Any] = {"content": [], "_meta": {"trace": 1}}
    notes.script("add", answer)
    before = copy.deepcopy(answer)
    caller = await client(await host(limiter(limit=["9/minute", "3/second"], advertise=True), providers=[notes]))
    result = await caller.call_tool("add", {})
    assert result.meta is not None
    assert result.meta[META] == {"limit": "3/second", "remaining": 2}
    assert result.meta["trace"] == 1
    assert answer == before


async def test_silent_by_default(host: HostFactory, notes: ScriptedProvider) -> None:
    """Without it a result passes as the same object."""
    plugin = limiter()
    await host(plugin, providers=[notes])
    result: Result = {"content": []}

    async def provider(call: Call) -> Result:
        return result

    assert await plugin.limit(tool(), provider) is result


# ---------------------------------------------------------------------------------------------------------------------
# Whose bucket
# ---------------------------------------------------------------------------------------------------------------------


async def test_principals_are_apart(host: HostFactory, notes: ScriptedProvider) -> None:
    """No principal takes from another: not of another tenant or issuer, of none, nor from a stranger."""
    running = await host(limiter(limit="3/minute"), providers=[notes])
    others = [
        ALICE,
        Principal("alice", "https://issuer.example", "globex"),
        Principal("alice", "https://issuer.example"),
        Principal("alice", "https://issuer.example", ""),
        Principal("alice", "https://other.example", "acme"),
        Principal("bob", "https://issuer.example", "acme"),
        Principal("alice:https", "//issuer.example", "acme"),
        Principal("alice", "", "https://issuer.example"),
        None,
    ]
    assert [await quota(running, who) for who in others] == [3] * len(others)
    assert [await quota(running, who) for who in others] == [0] * len(others)


async def test_strangers_by_address(host: HostFactory, notes: ScriptedProvider) -> None:
    """Who is not authenticated shares a bucket with his address; one IPv6 network is one address."""
    running = await host(limiter(limit="3/minute"), providers=[notes])
    assert await quota(running, address="192.0.2.1") == 3
    assert await quota(running, address="192.0.2.2") == 3
    assert await quota(running, address="2001:db8:0:1::1") == 3
    assert await quota(running, address="2001:db8:0:1:ffff::9") == 0
    assert await quota(running, address="2001:db8:0:2::1") == 3
    assert await quota(running, address="::ffff:192.0.2.1") == 0
    assert await quota(running, address="fe80::1%eth0") == 3
    assert await quota(running, ALICE, address="192.0.2.1") == 3
    assert await quota(running, Principal("", tenant="acme"), address="192.0.2.1") == 3
    assert await quota(running, Principal("", tenant="acme"), address="192.0.2.2") == 3
    assert await quota(running, Principal("", tenant="acme"), address="192.0.2.1") == 0


async def test_one_bucket_on_stdio(host: HostFactory, notes: ScriptedProvider) -> None:
    """Without an address, as on stdio, all calls are of the local user."""
    running = await host(limiter(limit="3/minute"), providers=[notes])
    assert await quota(running) == 3
    assert await quota(running, name="search_all") == 0


async def test_per_tenant(host: HostFactory, notes: ScriptedProvider) -> None:
    """A tenant's people share its bucket; who has no tenant has one of his own."""
    running = await host(limiter(limit="3/minute", per=["tenant"]), providers=[notes])
    assert await quota(running, ALICE) == 3
    assert await quota(running, Principal("bob", "elsewhere", "acme")) == 0
    assert await quota(running, Principal("acme", "", "globex")) == 3
    assert await quota(running, Principal("carol")) == 3
    assert await quota(running, Principal("dave")) == 3


async def test_per_tool_and_provider(host: HostFactory, notes: ScriptedProvider) -> None:
    """With `tool` each tool has a bucket; resources share one, since their URIs are the caller's to invent."""
    running = await host(limiter(limit="3/minute", per=["principal", "tool"]), providers=[notes])
    assert await quota(running, name="add") == 3
    assert await quota(running, name="search_all") == 3
    reads = [make_call("resources/read", {"uri": f"note://{number % 2 + 1}"}) for number in range(5)]
    assert [await passes(running, call) for call in reads] == [True, True, True, False, False]


async def test_per_provider(host: HostFactory, notes: ScriptedProvider) -> None:
    """With `provider` a caller has a bucket for each."""
    files = ScriptedProvider("files", tools=["open"])
    running = await host(limiter(limit="3/minute", per=["provider", "principal"]), providers=[notes, files])
    assert [await quota(running, name=name) for name in ("add", "search_all", "open")] == [3, 0, 3]


async def test_one_for_everybody(host: HostFactory, notes: ScriptedProvider) -> None:
    """With an empty `per` all calls share one bucket."""
    running = await host(limiter(limit="3/minute", per=[]), providers=[notes])
    assert [await quota(running, who) for who in (ALICE, None)] == [3, 0]


names = st.text(st.sampled_from("ab:% ',()\\\x00é\ud800"), max_size=4)
people = st.one_of(st.none(), st.builds(Principal, names, names, st.one_of(st.none(), names)))


@given(people, people, st.permutations(["tenant", "principal", "provider", "tool"]))
def test_identities_never_collide(one: Principal | None, other: Principal | None, per: list[Any]) -> None:
    """Two callers have the same bucket if they are the same, whatever their names are made of."""
    calls = [tool("t", who) for who in (one, other)]
    seen = [labels(call, per) for call in calls]
    nobody = Principal("")
    assert (digest(seen[0]) == digest(seen[1])) == ((one or nobody) == (other or nobody))


@given(st.lists(st.tuples(names, names).map(lambda pair: tuple(text.replace("\ud800", "") for text in pair))))
def test_identity_is_read_as_it_is_written(whose: list[tuple[str, ...]]) -> None:
    """What `show` prints is what `reset` takes."""
    assert parse(describe(whose)) == tuple(whose)


# ---------------------------------------------------------------------------------------------------------------------
# What counts
# ---------------------------------------------------------------------------------------------------------------------


async def test_cost(host: HostFactory, notes: ScriptedProvider) -> None:
    """A tool takes what the first glob that fits says; nothing passes half; cost 0 is never counted."""
    notes = ScriptedProvider("notes", tools=["add", "search_all", "search_free"])
    cost = {"search_free": 0, "search_*": 3}
    running = await host(limiter(limit="8/minute", cost=cost), providers=[notes])
    assert await quota(running, name="search_all") == 2
    with pytest.raises(MCPError, match="takes 3 of it") as caught:
        await running.dispatch(tool("search_all"))
    assert caught.value.data["remaining"] == 2
    assert await quota(running, name="add") == 2
    assert [await passes(running, tool("search_free")) for _ in range(20)] == [True] * 20


async def test_methods(host: HostFactory, notes: ScriptedProvider) -> None:
    """Calls, reads, prompts and completions share the limit; lists are free."""
    running = await host(limiter(limit="4/minute"), providers=[notes])
    reference = {"type": "ref/prompt", "name": "ask"}
    counted = [
        make_call("prompts/get", {"name": "ask"}),
        make_call("resources/read", {"uri": "note://1"}),
        make_call("completion/complete", {"ref": reference, "argument": {"name": "a", "value": ""}}),
        tool(),
        tool(),
    ]
    assert [await passes(running, call) for call in counted] == [True, True, True, True, False]
    assert await passes(running, make_call("tools/list"))


async def test_two_instances(host: HostFactory, notes: ScriptedProvider) -> None:
    """Instances count apart, each what its match names; the inner one is asked only for what the outer one let pass."""
    config = {
        "plugins": {
            "rate-limit": {"limit": "5/minute"},
            "search-limit": {"plugin": "rate-limit", "limit": "2/minute", "match": {"tool": "search_*"}},
        }
    }
    running = await host(providers=[notes], config=config)
    assert await quota(running, name="search_all") == 2
    assert await quota(running, name="add") == 2  # two passed, and one was refused by the second instance only


# ---------------------------------------------------------------------------------------------------------------------
# When it fails, or only looks
# ---------------------------------------------------------------------------------------------------------------------


async def away(*_: Any) -> Any:
    raise BackendUnavailable("redis://nowhere is unavailable")


@pytest.mark.parametrize("fail_mode", ["closed", "open"])
async def test_counts_unknown(
    fail_mode: str, host: HostFactory, notes: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1: without its store it refuses with a reason and a time, or lets pass, and each such call is counted."""
    watch = RecordingMiddleware(name="watch")
    plugin = limiter(fail_mode=fail_mode)
    running = await host(plugin, watch, providers=[notes])
    monkeypatch.setattr(plugin._store, "take", away)
    if fail_mode == "open":
        await running.dispatch(tool())
    else:
        with pytest.raises(MCPError, match="'rate-limit' cannot be checked at the moment") as caught:
            await running.dispatch(tool())
        assert caught.value.code == ErrorCode.UPSTREAM_UNAVAILABLE
        assert caught.value.data == {"retryAfterMs": 1000}
    await running.clock.sleep(1)
    told = [event for event in watch.events if event.type == EventType.FAIL_OPEN]
    assert len(told) == (fail_mode == "open")
    assert len(notes.calls) == (fail_mode == "open")


@pytest.mark.parametrize("mode", ["enforce", "observe"])
async def test_refusals_are_told(mode: str, host: HostFactory, notes: ScriptedProvider) -> None:
    """A refusal is an event that says whose limit it was; in observe mode the call passes, and the event says so."""
    watch = RecordingMiddleware(name="watch")
    running = await host(limiter(limit="1/minute", mode=mode), watch, providers=[notes])
    assert [await passes(running, tool(who=ALICE)) for _ in range(2)] == [True, mode == "observe"]
    await running.clock.sleep(1)
    (event,) = [event for event in watch.events if event.subject == "rate-limit" and "refuse" in event.type]
    if mode == "observe":
        assert event.type == EventType.WOULD_REFUSE
    else:
        whose = "principal:alice:https%3A//issuer.example:acme"
        assert event.type == EventType.REFUSED
        assert event.details == {"method": "tools/call", "limit": "1/minute", "identity": whose}


# ---------------------------------------------------------------------------------------------------------------------
# Operation
# ---------------------------------------------------------------------------------------------------------------------


async def test_operations(host: HostFactory, notes: ScriptedProvider) -> None:
    """Operators see who is refused most, what one has left, and give the quota back to one or all."""
    running = await host(limiter(limit=["3/minute", "9/hour"]), providers=[notes])
    await quota(running, ALICE)
    await quota(running)
    await passes(running, tool())
    shown = await running.run_operation("rate-limit", "show")
    whose = "principal:alice:https%3A//issuer.example:acme"
    refused = [{"identity": "address:local", "refused": 2}, {"identity": whose, "refused": 1}]
    assert shown == {
        "limit": ["3/minute", "9/hour"],
        "algorithm": "sliding-window",
        "per": ["principal"],
        "store": "memory://",
        "available": True,
        "identities": 2,
        "refused_most": refused,
    }
    assert await running.run_operation("rate-limit", "remaining", {"identity": whose}) == {
        "identity": whose,
        "limit": "3/minute",
        "remaining": 0,
    }
    assert (await running.run_operation("rate-limit", "reset", {"identity": whose}))["remaining"] == 3
    assert [await quota(running, who) for who in (ALICE, None)] == [3, 0]
    assert (await running.run_operation("rate-limit", "reset-all"))["refused_most"] == []
    assert [await quota(running, who) for who in (ALICE, None)] == [3, 3]


async def test_reload_keeps_counts(host: HostFactory, notes: ScriptedProvider) -> None:
    """A changed limit, cost or method takes effect on a running host, and what was taken stays taken."""
    plugin = limiter(limit="3/minute")
    running = await host(plugin, providers=[notes])
    assert await quota(running, ALICE) == 3
    assert await plugin.reconfigure(RateLimitConfig.model_validate({"limit": "5/minute", "cost": {"search_*": 2}}))
    assert await passes(running, tool("search_all", ALICE))
    assert not await passes(running, tool("add", ALICE))
    assert not await plugin.reconfigure(RateLimitConfig.model_validate({"url": "redis://elsewhere"}))


def test_limit_is_written_one_way() -> None:
    """A limit is a text or a list of texts, for the config and for the editor that checks it."""
    assert RateLimitConfig.model_validate({"limit": "1/day"}) == RateLimitConfig.model_validate({"limit": ["1/day"]})
    assert RateLimitConfig().model_dump(mode="json")["limit"] == ["100/minute"]
    schema = RateLimitConfig.model_json_schema()["properties"]["limit"]
    assert schema["default"] == "100/minute"
    assert [kind["type"] for kind in schema["anyOf"]] == ["string", "array"]


async def test_place_in_the_pipeline() -> None:
    """It stands in GUARD behind what refuses for other reasons, for the methods that are counted."""
    (layer,) = limiter(methods=["tools/call"]).plughost_middleware()
    assert (layer.phase, layer.methods) == (Phase.GUARD, {"tools/call"})
    assert set(layer.after) == {"rbac", "validation"}
