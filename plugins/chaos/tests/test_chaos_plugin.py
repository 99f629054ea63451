"""The plugin in a host, on virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from opentelemetry.metrics import Counter
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    Host,
    MCPPlugin,
    Middleware,
    Outcome,
    Phase,
    PlughostError,
    Result,
    classify,
    hookimpl,
)
from plughost_chaos import ChaosConfig, ChaosPlugin
from plughost_testing import (
    HostFactory,
    Inventory,
    Line,
    Progress,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    check_leaks,
    make_call,
    text,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def notes() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["add", "delete_all"], resources=["note://1"])


def chaos(*faults: dict[str, Any], seed: int = 0) -> ChaosPlugin:
    return ChaosPlugin(ChaosConfig.model_validate({"i_know": True, "seed": seed, "faults": faults}), name="chaos")


async def called(host: Host, tool: str = "add", line: Line | None = None) -> str:
    """The text of an answer, or the message of an error."""
    try:
        result = await host.dispatch(make_call("tools/call", {"name": tool}, line=line))
    except MCPError as error:
        return error.error.message
    words: str = result["content"][0]["text"]
    return words


class TestFaults:
    async def test_error(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """An error answers without the provider, on the calls that the script names."""
        running = await host(chaos({"kind": "error", "message": "disk full", "on": [2]}), providers=[notes])
        assert [await called(running) for _ in range(3)] == ["add({})", "disk full", "add({})"]
        assert len(notes.calls) == 2

    async def test_latency(self, host: HostFactory, notes: ScriptedProvider, virtual_clock: VirtualClock) -> None:
        """The call takes longer by the time given."""
        running = await host(chaos({"kind": "latency", "seconds": "1h"}), providers=[notes])
        begin = virtual_clock.monotonic()
        assert await called(running) == "add({})"
        assert virtual_clock.monotonic() - begin == pytest.approx(3600)

    async def test_hang(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The provider does its work, the answer never comes, and the caller may give up."""
        running = await host(chaos({"kind": "hang"}), providers=[notes])
        with anyio.move_on_after(3600) as scope:
            await called(running)
        assert scope.cancelled_caught
        assert [item.outcome for item in notes.calls] == [Outcome.SUCCESS]

    async def test_disconnect(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The answer is lost, and the provider is unreachable until its time is over; others are not."""
        other = ScriptedProvider("other", tools=["look"])
        running = await host(chaos({"kind": "disconnect", "seconds": 30, "on": [1]}), providers=[notes, other])
        assert await called(running) == "notes: connection lost"
        await anyio.sleep(29)
        assert await called(running) == "notes: connection lost"
        assert await called(running, "look") == "look({})"
        assert len(notes.calls) == 1
        await anyio.sleep(2)
        assert await called(running) == "add({})"

    async def test_malformed(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The result is something that the specification does not allow."""
        running = await host(chaos({"kind": "malformed"}), providers=[notes])
        result = await running.dispatch(make_call("tools/call", {"name": "add"}))
        assert result["content"] == "not a list"

    async def test_slow_stream(self, host: HostFactory, notes: ScriptedProvider, virtual_clock: VirtualClock) -> None:
        """Each notification and the answer come late, and nothing is lost."""
        notes.script("add", [Progress(1), Progress(2), text("done")])
        running = await host(chaos({"kind": "slow-stream", "seconds": 10}), providers=[notes])
        begin, line = virtual_clock.monotonic(), Line()
        assert await called(running, line=line) == "done"
        assert [params["progress"] for _, params in line.sent] == [1, 2]
        assert virtual_clock.monotonic() - begin == pytest.approx(30)


class TestWhichCalls:
    async def test_by_rate(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The same seed harms the same calls, about as many as the rate says; another seed harms others."""
        drawn = []
        for seed in (1, 1, 2):
            running = await host(chaos({"kind": "error", "rate": 0.2}, seed=seed), providers=[notes])
            drawn.append([await called(running) == "add({})" for _ in range(200)])
        assert 20 < drawn[0].count(False) < 60
        assert drawn[0] == drawn[1] != drawn[2]

    async def test_by_target(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """A glob of one fault is on the provider's own names."""
        notes.prefix = "my_"
        running = await host(chaos({"kind": "error", "message": "no", "target": "delete_*"}), providers=[notes])
        assert [await called(running, name) for name in ("my_add", "my_delete_all")] == ["add({})", "no"]

    async def test_by_match(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The key `match` says which calls the whole instance is about."""
        faults = [{"kind": "error", "message": "no"}]
        table = {"i_know": True, "faults": faults, "match": {"provider": "notes", "tool": "add"}}
        running = await host(providers=[notes], config={"plugins": {"chaos": table}})
        assert [await called(running, name) for name in ("add", "delete_all")] == ["no", "delete_all({})"]

    async def test_lists_only_if_named(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """A list fails if a fault names its method, and else never."""
        faults = {"kind": "error", "message": "no"}, {"kind": "error", "message": "none", "methods": ["tools/list"]}
        running = await host(chaos(*faults), providers=[notes])
        with pytest.raises(MCPError, match="none"):
            await running.dispatch(make_call("tools/list"))
        assert len((await running.dispatch(make_call("resources/list")))["resources"]) == 1

    async def test_calls_to_nobody(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """A call that leads to no provider is answered as ever."""
        plugin = chaos({"kind": "error", "message": "no"})
        running = await host(plugin, providers=[notes, ScriptedProvider("other", tools=["look"])])
        assert await called(running, "fly") == "Unknown tool: fly"
        await running.dispatch(
            make_call("logging/setLevel", {"level": "info"}, protocol_version=LATEST_HANDSHAKE_VERSION)
        )
        assert plugin.faults.injected.total() == 0


class Again(MCPPlugin):
    """Repeats what failed by the provider's fault, once."""

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.repeat, Phase.PROTECT)]

    async def repeat(self, call: Call, call_next: CallNext) -> Result:
        try:
            return await call_next(call)
        except MCPError as error:
            if classify(error=error) is not Outcome.FAILURE:
                raise
            return await call_next(call)


class TestPlace:
    @pytest.mark.parametrize("name", ["retry", "hedge", "circuit-breaker", "timeout", "bulkhead"])
    async def test_innermost(self, host: HostFactory, notes: ScriptedProvider, name: str) -> None:
        """What protects calls stands outside, whatever the names of the instances."""
        outer = RecordingMiddleware(Phase.PROTECT, name=name)
        running = await host(ChaosPlugin(ChaosConfig(i_know=True), name="a"), outer, providers=[notes])
        assert [layer["instance"] for layer in running.chain("add")] == [name, "a"]

    @pytest.mark.parametrize("kind", ["error", "disconnect"])
    async def test_faults_are_the_providers(self, host: HostFactory, notes: ScriptedProvider, kind: str) -> None:
        """What protects calls takes a fault for a failure of the provider, and a repetition is a call of its own."""
        plugin = chaos({"kind": kind, "on": [1]})
        running = await host(plugin, Again(name="retry"), providers=[notes])
        assert await called(running) == "add({})"
        assert plugin.faults.injected == {kind: 1}


class TestOperations:
    async def test_show(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """Each configured kind is counted under its name in the configuration."""
        faults = {"kind": "slow-stream", "seconds": 1, "on": [1, 2]}, {"kind": "hang", "on": [9]}
        running = await host(chaos(*faults, seed=4), providers=[notes])
        for _ in range(3):
            await called(running)
        shown = await running.run_operation("chaos", "show")
        assert shown == {"paused": False, "seed": 4, "injected": {"slow-stream": 2, "hang": 0}}

    async def test_pause_and_resume(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """While paused every call passes, also to a provider that is away; resumed, faults go on where they were."""
        plugin = chaos({"kind": "disconnect", "seconds": 3600, "on": [1]})
        running = await host(plugin, providers=[notes])
        assert await called(running) == "notes: connection lost"
        assert (await running.run_operation("chaos", "pause"))["paused"] is True
        assert await called(running) == "add({})"
        assert (await running.run_operation("chaos", "resume"))["paused"] is False
        assert await called(running) == "notes: connection lost"
        assert plugin.faults.injected == {"disconnect": 1}

    async def test_set_seed(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The same seed set again repeats the same faults, from the first number and count on."""
        running = await host(chaos({"kind": "error", "rate": 0.5}, {"kind": "latency", "seconds": 1, "on": [1]}))
        await running.register(_provider_plugin(notes))
        drawn = []
        for seed in (7, 7, 8):
            assert (await running.run_operation("chaos", "set-seed", {"seed": seed}))["seed"] == seed
            drawn.append([await called(running) for _ in range(50)])
            assert (await running.run_operation("chaos", "show"))["injected"]["latency"] == 1
        assert drawn[0] == drawn[1] != drawn[2]

    async def test_set_seed_while_paused(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """A new seed does not end the pause."""
        running = await host(chaos({"kind": "error"}), providers=[notes])
        await running.run_operation("chaos", "pause")
        assert (await running.run_operation("chaos", "set-seed", {"seed": 1}))["paused"] is True
        assert await called(running) == "add({})"

    async def test_bad_parameters(self, host: HostFactory) -> None:
        """A seed that is no number is refused."""
        running = await host(chaos())
        with pytest.raises(PlughostError, match="seed"):
            await running.run_operation("chaos", "set-seed", {"seed": "lucky"})


def _provider_plugin(provider: ScriptedProvider) -> MCPPlugin[Any]:
    class Source(MCPPlugin):
        @hookimpl
        def plughost_providers(self) -> list[ScriptedProvider]:
            return [provider]

    return Source(name="source")


class Tally(Counter):
    def __init__(self) -> None:
        self.kinds: list[object] = []

    def add(self, amount: Any, attributes: Any = None, context: Any = None) -> None:
        self.kinds += [attributes["plughost.chaos.kind"]] * amount


async def test_metric(host: HostFactory, notes: ScriptedProvider) -> None:
    """Each fault is counted by kind."""
    plugin = chaos({"kind": "slow-stream", "seconds": 1}, {"kind": "error", "on": [2]})
    plugin.faults._count = tally = Tally()
    running = await host(plugin, providers=[notes])
    await called(running)
    await called(running)
    assert tally.kinds == ["slow-stream", "slow-stream", "error"]


async def test_start_is_logged(host: HostFactory, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads the log of a host sees that its failures are wanted; without faults there is nothing to see."""
    await host(chaos())
    assert "on purpose" not in caplog.text
    await host(chaos({"kind": "hang"}))
    assert "plugin 'chaos' makes calls fail on purpose: 1 faults" in caplog.text


async def test_leaves_while_a_provider_is_away(host: HostFactory, notes: ScriptedProvider) -> None:
    """Taken out, the plugin leaves no timer, and calls pass at once."""
    running = await host(providers=[notes])
    before = Inventory.take(timers=True)
    await running.register(chaos({"kind": "disconnect", "seconds": 3600}))
    assert await called(running) == "notes: connection lost"
    await running.unregister("chaos")
    assert await called(running) == "add({})"
    await check_leaks(before, timers=True)


async def test_refusal_code(host: HostFactory, notes: ScriptedProvider) -> None:
    """A lost connection is answered as an upstream that is away."""
    running = await host(chaos({"kind": "disconnect"}), providers=[notes])
    with pytest.raises(MCPError) as caught:
        await running.dispatch(make_call("tools/call", {"name": "add"}))
    assert caught.value.code == ErrorCode.UPSTREAM_UNAVAILABLE
