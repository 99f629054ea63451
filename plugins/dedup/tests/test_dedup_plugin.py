"""The plugin in the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp_types import LOG_LEVEL_META_KEY
from meters import collecting
from plughost import (
    Call,
    Host,
    Kind,
    Principal,
    Refusal,
    Result,
)
from plughost_dedup import IDEMPOTENCY_KEY, DedupConfig, DedupPlugin
from plughost_dedup._metrics import meter
from plughost_testing import (
    Line,
    Pause,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
    make_host,
    text,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Stage:
    """A host with the plugin, and a provider whose tool takes a second."""

    def __init__(self, host: Host, plugin: DedupPlugin, provider: ScriptedProvider) -> None:
        self.host, self.plugin, self.provider = host, plugin, provider

    def call(
        self,
        name: str = "add",
        *,
        who: str | None = None,
        line: Line | None = None,
        version: str = "2026-07-28",
        **params: Any,
    ) -> Call:
        meta = params.pop("meta", {})
        body = {"name": name, "arguments": {"a": 1}, "_meta": meta, **params}
        principal = None if who is None else Principal(who)
        return make_call("tools/call", body, principal=principal, line=line, protocol_version=version)

    def start(self, name: str = "add", **params: Any) -> asyncio.Task[Result]:
        return asyncio.ensure_future(self.host.dispatch(self.call(name, **params)))

    @property
    def runs(self) -> int:
        return len(self.provider.calls)


@pytest.fixture
async def stages(virtual_clock: VirtualClock) -> AsyncIterator[Any]:
    stack = []

    async def make(**config: Any) -> Stage:
        provider = ScriptedProvider("notes", tools=["add", "pay"], prompts=["ask"], resources=["note://1"])
        provider.script("add", [Pause(1), text("done")])
        provider.script("pay", [Pause(1), text("paid")])
        plugin = DedupPlugin(DedupConfig(**{"tools": ["add"], **config}), name="dedup")
        context = make_host(plugin, providers=[provider], clock=virtual_clock)
        stack.append(context)
        host = await context.__aenter__()
        await anyio.sleep(0.1)  # what happened at the start is told by then
        return Stage(host, plugin, provider)

    yield make
    for context in reversed(stack):
        await context.__aexit__(None, None, None)


def words(result: Any) -> str:
    return str(result["content"][0]["text"])


async def test_a_stampede_of_1000_callers_runs_one_call(stages: Any) -> None:
    """Each gets the answer; the provider was asked once."""
    stage = await stages()
    found = await asyncio.gather(*(stage.start() for _ in range(1000)))
    assert {words(result) for result in found} == {"done"}
    assert stage.runs == 1


async def test_calls_one_after_the_other_each_run(stages: Any) -> None:
    """Without a window nothing is answered twice from one execution."""
    stage = await stages()
    await stage.start()
    await stage.start()
    assert stage.runs == 2


async def test_a_tool_that_is_not_named_is_never_shared(stages: Any) -> None:
    """Its concurrent identical calls all arrive (K5)."""
    stage = await stages()
    await asyncio.gather(*(stage.start("pay") for _ in range(5)))
    assert stage.runs == 5


async def test_two_principals_never_share(stages: Any) -> None:
    """Equal arguments of two callers are two executions, concurrent or one after the other (K2)."""
    stage = await stages(window=60)
    await asyncio.gather(*(stage.start(who=who) for who in ("ann", "bob", "ann")))
    await stage.start(who="cid")
    assert stage.runs == 3


async def test_other_arguments_are_another_call(stages: Any) -> None:
    """What differs in its arguments is not shared."""
    stage = await stages()
    await asyncio.gather(*(stage.start(arguments={"a": n}) for n in (1, 1.0, True)))
    assert stage.runs == 3


@pytest.mark.parametrize(
    "personal",
    [
        {"requestState": "sealed"},
        {"inputResponses": {"name": {"action": "accept"}}},
        {"task": {"ttl": 1000}},
        {"meta": {"progressToken": 1}},
        {"meta": {LOG_LEVEL_META_KEY: "info"}},
    ],
)
async def test_what_belongs_to_one_caller_is_not_shared(stages: Any, personal: dict[str, Any]) -> None:
    """A step of several, a task, and whatever streams progress or logs run on their own, and are not kept (H3)."""
    stage = await stages(window=60)
    await asyncio.gather(*(stage.start(**personal) for _ in range(3)))
    assert stage.runs == 3
    assert len(stage.plugin.window) == 0


async def test_a_question_to_the_caller_is_shared_with_nobody(stages: Any) -> None:
    """Of `input_required` each caller gets its own, and none is kept (H3, K3)."""
    stage = await stages(window=60)
    asked = {"resultType": "input_required", "inputRequests": {}, "requestState": "sealed"}
    stage.provider.script("add", [Pause(1), asked])
    found = await asyncio.gather(*(stage.start() for _ in range(3)))
    assert [result["resultType"] for result in found] == ["input_required"] * 3
    assert stage.runs == 3
    assert len(stage.plugin.window) == 0


@pytest.mark.parametrize(
    ("method", "params"), [("resources/read", {"uri": "note://1"}), ("prompts/get", {"name": "ask"})]
)
@pytest.mark.parametrize("reads", [True, False])
async def test_reads_are_shared_unless_told_otherwise(stages: Any, method: str, params: Any, *, reads: bool) -> None:
    """Reading is safe by the specification."""
    stage = await stages(reads=reads)
    answer: dict[str, Any] = {"contents": []} if method == "resources/read" else {"messages": []}
    stage.provider.script(next(iter(params.values())), [Pause(1), answer])
    await asyncio.gather(*(stage.host.dispatch(make_call(method, params)) for _ in range(4)))
    assert stage.runs == (1 if reads else 4)


async def test_a_cancelled_leader_fails_nobody(stages: Any) -> None:
    """The others get the result of the execution that it started (K5)."""
    stage = await stages()
    leader, *followers = [stage.start() for _ in range(3)]
    await anyio.sleep(0.5)
    leader.cancel()
    assert [words(await follower) for follower in followers] == ["done", "done"]
    assert leader.cancelled()
    assert stage.runs == 1


async def test_nobody_waits_any_more_so_the_provider_is_told(stages: Any) -> None:
    """With the last caller the provider's work ends, before that caller's call does."""
    stage = await stages()
    both = [stage.start(), stage.start()]
    await anyio.sleep(0.5)
    for task in both:
        task.cancel()
    await asyncio.wait(both)
    assert not stage.provider.running
    assert stage.host.generation.pipeline.gate.inside == 0


async def test_a_result_changed_by_one_caller_is_unseen_by_another(stages: Any) -> None:
    """Neither by one who shared it nor by one who gets it from the window (K4)."""
    stage = await stages(window=60)
    one, other = await asyncio.gather(stage.start(), stage.start())
    one["content"][0]["text"] = "forged"
    assert words(other) == words(await stage.start()) == "done"
    other["content"].clear()
    assert words(await stage.start()) == "done"
    assert stage.runs == 1


async def test_the_window_ends(stages: Any) -> None:
    """A result is handed out as long after its execution as the window is, and no longer."""
    stage = await stages(window=10)
    await stage.start()
    await anyio.sleep(9.9)
    await stage.start()
    assert stage.runs == 1
    await anyio.sleep(0.2)
    await stage.start()
    assert stage.runs == 2


@pytest.mark.parametrize("failure", [{"content": [], "isError": True}, MCPError(-32603, "broken")])
async def test_failures_are_shared_and_never_kept(stages: Any, failure: Any) -> None:
    """Those who wait together fail together; the next call tries again (K3)."""
    stage = await stages(window=60)
    stage.provider.script("add", [Pause(1), failure])
    await asyncio.gather(*(stage.start() for _ in range(3)), return_exceptions=True)
    assert stage.runs == 1
    stage.provider.script("add", text("well again"))
    assert words(await stage.start()) == "well again"
    assert words(await stage.start(meta={IDEMPOTENCY_KEY: "k"})) == "well again"


async def test_a_changed_catalog_empties_the_window(stages: Any) -> None:
    """What was removed and came back is asked again; also what was under way meanwhile is not kept."""
    stage = await stages(window=3600)
    await stage.start()
    late = stage.start(arguments={"a": 2})
    await anyio.sleep(0.5)
    stage.provider.change(Kind.TOOLS, ["add"])
    await late
    assert len(stage.plugin.window) == 0


async def test_a_removed_tool_is_never_answered_from_the_window(stages: Any) -> None:
    """The provider is asked, if anybody still routes there; from the first moment that it is not listed any more."""
    stage = await stages(window=3600)
    await stage.start()
    stage.provider.script("add", MCPError(-32602, "Unknown tool: add"))
    stage.provider.change(Kind.TOOLS, ["pay"])
    while stage.host.generation.catalog.lists("add"):  # noqa: ASYNC110 - the very moment
        await asyncio.sleep(0)
    with pytest.raises(MCPError, match="Unknown tool"):
        await stage.start()


async def test_bounds_hold(stages: Any) -> None:
    """The oldest results make room."""
    stage = await stages(window=3600, max_entries=3)
    await asyncio.gather(*(stage.start(arguments={"a": n}) for n in range(10)))
    assert len(stage.plugin.window) == 3


# -- idempotency keys -------------------------------------------------------------------------------------------------


def with_key(key: Any = "order-1", **meta: Any) -> dict[str, Any]:
    return {IDEMPOTENCY_KEY: key, **meta}


async def test_an_idempotency_key_makes_any_tool_safe_to_repeat(stages: Any) -> None:
    """Concurrent or later, the same key and arguments are one execution, though nobody named the tool."""
    stage = await stages()
    found = await asyncio.gather(*(stage.start("pay", meta=with_key(progressToken=n)) for n in range(3)))
    found.append(await stage.start("pay", meta=with_key()))
    assert {words(result) for result in found} == {"paid"}
    assert stage.runs == 1


@pytest.mark.parametrize("later", [False, True])
async def test_the_same_key_with_other_arguments_is_an_error(stages: Any, *, later: bool) -> None:
    """While the first is under way, and as long as its result is kept; the first is not disturbed."""
    stage = await stages()
    first = stage.start("pay", meta=with_key())
    await anyio.sleep(2 if later else 0)
    for other in ({"arguments": {"a": 2}}, {"name": "add"}):
        with pytest.raises(MCPError, match="other arguments before; send a new key") as caught:
            await stage.start(**{"name": "pay", "meta": with_key(), **other})
        assert caught.value.code == -32602
    assert words(await first) == "paid"
    assert stage.runs == 1


async def test_a_key_is_free_again_when_its_time_is_over(stages: Any) -> None:
    """So is one whose call failed or was given up."""
    stage = await stages(idempotency_window=100)
    await stage.start("pay", meta=with_key())
    await anyio.sleep(101)
    gone = stage.start("pay", meta=with_key(), arguments={"a": 2})
    await anyio.sleep(0.5)
    gone.cancel()
    await asyncio.wait([gone])
    await stage.start("pay", meta=with_key(), arguments={"a": 3})
    assert stage.runs == 3


async def test_each_principal_has_its_own_keys(stages: Any) -> None:
    """Nobody learns from a key what others do with it (K2)."""
    stage = await stages()
    for who in ("ann", "bob"):
        await stage.start("pay", who=who, meta=with_key(), arguments={"who": who})
    assert stage.runs == 2


@pytest.mark.parametrize("value", ["", "x" * 257, 7, None, ["a"]])
async def test_a_malformed_key_is_an_error(stages: Any, value: Any) -> None:
    """A client that relies on it must learn that it does not hold."""
    stage = await stages()
    with pytest.raises(MCPError, match="is no idempotency key; send 1 to 256 characters"):
        await stage.start("pay", meta=with_key(value))


async def test_a_key_outlives_a_changed_catalog(stages: Any) -> None:
    """What was promised for it holds whatever happens to other tools."""
    stage = await stages()
    await stage.start("pay", meta=with_key())
    stage.provider.change(Kind.TOOLS, ["pay"])
    await anyio.sleep(0.1)
    await stage.start("pay", meta=with_key())
    assert stage.runs == 1


# -- deadlines, and the line to the client --------------------------------------------------------------------------


async def test_each_caller_keeps_its_own_deadline(stages: Any, virtual_clock: VirtualClock) -> None:
    """One that runs out refuses that caller alone; the execution has the time of who waits longest."""
    stage = await stages()
    stage.provider.script("add", [Pause(5), text("done")])
    hurried, patient = stage.call(), stage.call()
    hurried.deadline = virtual_clock.monotonic() + 2
    patient.deadline = virtual_clock.monotonic() + 9
    tasks = [asyncio.ensure_future(stage.host.dispatch(call)) for call in (hurried, patient)]
    with pytest.raises(Refusal, match="did not answer within 2 s, which were left until its deadline"):
        await tasks[0]
    assert words(await tasks[1]) == "done"
    assert stage.runs == 1
    assert stage.provider.calls[0].call.deadline is None


async def test_a_question_during_the_call_makes_it_personal(stages: Any) -> None:
    """What a client of an earlier revision was asked, and answered, is in the result; others are asked themselves."""
    stage = await stages(window=60)

    async def ask(call: Call, params: Any) -> Result:
        await anyio.sleep(1)
        return text((await call.dispatch.send_raw_request("elicitation/create", {}))["name"])

    stage.provider.script("add", ask)
    lines = [Line({"elicitation/create": {"name": name}}) for name in ("ann", "bob")]
    tasks = [stage.start(line=line, version="2025-11-25") for line in lines]
    assert [words(await task) for task in tasks] == ["ann", "bob"]
    assert len(stage.plugin.window) == 0


async def test_a_client_that_left_is_neither_asked_nor_told(stages: Any) -> None:
    """The execution goes on for the others as if there had been nobody to ask, and they run it again themselves."""
    stage = await stages()

    async def ask(call: Call, params: Any) -> Result:
        await anyio.sleep(1)
        await call.dispatch.notify("notifications/message", {"level": "info"})
        return text((await call.dispatch.send_raw_request("elicitation/create", {}))["name"])

    stage.provider.script("add", ask)
    ann, bob = Line({"elicitation/create": {"name": "ann"}}), Line({"elicitation/create": {"name": "bob"}})
    leader = stage.start(line=ann, version="2025-11-25")
    follower = stage.start(line=bob, version="2025-11-25")
    await anyio.sleep(0.5)
    leader.cancel()
    assert words(await follower) == "bob"
    assert ann.sent == []


async def test_a_question_that_is_open_when_its_client_leaves_is_not_waited_for(stages: Any) -> None:
    """Whoever waits for the same answer is asked in its place."""
    stage = await stages()

    class Silent(Line):
        async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> dict[str, Any]:
            await anyio.sleep(3600)
            return {}

    async def ask(call: Call, params: Any) -> Result:
        return text((await call.dispatch.send_raw_request("elicitation/create", {}))["name"])

    stage.provider.script("add", ask)
    bob = Line({"elicitation/create": {"name": "bob"}})
    leader = stage.start(line=Silent({"elicitation/create": {}}), version="2025-11-25")
    follower = stage.start(line=bob, version="2025-11-25")
    await anyio.sleep(1)
    leader.cancel()
    async with asyncio.timeout(1):
        assert words(await follower) == "bob"


# -- life -------------------------------------------------------------------------------------------------------------


async def test_a_follower_of_the_next_generation_keeps_the_old_one_alive(stages: Any) -> None:
    """The pipeline that an execution runs in is not taken down under it, though only newer callers wait."""
    stage = await stages()
    stage.provider.script("add", [Pause(5), text("done")])
    old = stage.start()
    await anyio.sleep(1)
    pipeline = stage.host.generation.pipeline
    change = asyncio.ensure_future(stage.host.register(RecordingMiddleware(name="other")))
    await anyio.sleep(0.5)
    new = stage.start()
    await anyio.sleep(0.5)
    old.cancel()
    await anyio.sleep(0.5)
    assert pipeline.gate.inside == 1
    assert words(await new) == "done"
    await asyncio.wait([old, change])
    assert stage.runs == 1


async def test_show_and_clear(stages: Any) -> None:
    """An operator sees what is under way and kept, and empties it; metrics tell how calls were answered."""
    with collecting(meter) as collector:
        stage = await stages(window=60)
        await asyncio.gather(stage.start(), stage.start())
        await stage.start()
        await stage.start("pay", meta=with_key())
        counted = {"executed": 2, "joined": 1, "answered": 1}
        assert collector.points()["plughost.dedup.count"] == {
            f"plugin=dedup dedup.how={how}": count for how, count in counted.items()
        }
    show, clear = stage.plugin.plughost_operations()
    shown = await show.run(None)
    told = {"underWay": 0, "store": "memory://", **counted}
    assert {name: shown[name] for name in told} == told
    assert await clear.run(None) == {"cleared": 2}
    await stage.start()
    assert stage.runs == 3
