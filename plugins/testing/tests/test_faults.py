"""What goes wrong, and with which call."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import pytest
from mcp import MCPError
from plughost import ErrorCode, Host, Kind, Outcome, ProviderDown, ProviderUp
from plughost_testing import (
    HostFactory,
    Inventory,
    Line,
    Progress,
    ScriptedProvider,
    VirtualClock,
    check_leaks,
    make_call,
    text,
)
from plughost_testing.faults import Disconnect, Error, Faults, Faulty, Hang, Latency, Malformed, Rule, SlowStream

pytestmark = pytest.mark.anyio


@pytest.fixture
def notes() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["add", "delete_all", "delete_one"], resources=["note://1"])


async def called(host: Host, tool: str = "add", line: Line | None = None) -> str:
    """The text of an answer, or the message of an error."""
    try:
        result = await host.dispatch(make_call("tools/call", {"name": tool}, line=line))
    except MCPError as error:
        return error.error.message
    words: str = result["content"][0]["text"]
    return words


class TestRules:
    def test_every_call_without_limits(self) -> None:
        """A rule without limits happens to every call but lists."""
        faults = Faults([Rule(Hang())])
        assert faults.choose("tools/call", "add") == [Hang()]
        assert faults.choose("test/custom", None) == [Hang()]
        assert faults.choose("tools/list", None) == []

    def test_by_target_and_method(self) -> None:
        """A glob on the name and a set of methods say which calls a rule is about."""
        faults = Faults([Rule(Hang(), target="delete_*", methods={"tools/call"})])
        chosen = [bool(faults.choose(*of)) for of in [("tools/call", "add"), ("tools/call", "delete_all")]]
        assert chosen == [False, True]
        assert faults.choose("prompts/get", "delete_all") == []

    def test_by_script(self) -> None:
        """Numbers say which of the calls that fit it happens to."""
        faults = Faults([Rule(Hang(), on={1, 3}, target="delete_*")])
        assert [bool(faults.choose("tools/call", name)) for name in ("delete_a", "add", "delete_b", "delete_c")] == [
            True,
            False,
            False,
            True,
        ]

    def test_by_rate(self) -> None:
        """A rate gives the share of the calls; the same seed gives the same calls, another one others."""
        drawn = [
            [bool(faults.choose("tools/call", "add")) for _ in range(1000)]
            for faults in (Faults([Rule(Hang(), rate=0.2)], seed=seed) for seed in (1, 1, 2))
        ]
        assert 150 < sum(drawn[0]) < 250
        assert drawn[0] == drawn[1] != drawn[2]

    def test_rules_do_not_disturb_each_other(self) -> None:
        """One rule more leaves the chances of those before it as they were."""
        rule = Rule(Hang(), rate=0.2)
        alone, together = Faults([rule]), Faults([rule, Rule(Latency(1), rate=0.5)])
        chosen = [(alone.choose("tools/call", "a"), together.choose("tools/call", "a")) for _ in range(200)]
        assert all((Hang() in one) == (Hang() in both) for one, both in chosen)

    def test_counts(self) -> None:
        """What was injected is counted by kind; what is turned off is not."""
        faults = Faults([Rule(Hang(), on={1}), Rule(Latency(1))])
        for _ in range(3):
            faults.choose("tools/call", "add")
        faults.enabled = False
        assert faults.choose("tools/call", "add") == []
        assert faults.injected == {"hang": 1, "latency": 3}

    @pytest.mark.parametrize("rate", [-0.1, 1.5])
    def test_impossible_rate_is_refused(self, rate: float) -> None:
        """A rate is a share."""
        with pytest.raises(ValueError, match="give a number from 0 to 1"):
            Rule(Hang(), rate=rate)


class TestFaulty:
    async def test_unharmed_calls_pass(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """A provider without faults is as it was: lists, answers, changes."""
        running = await host(providers=[Faulty(notes, Faults([]))])
        assert await called(running) == "add({})"
        notes.change(Kind.TOOLS, ["other"])
        await anyio.sleep(0.1)
        assert await called(running, "other") == "other({})"

    async def test_error(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """An error answers without the provider."""
        running = await host(providers=[Faulty(notes, Faults([Rule(Error("no", -32000), on={1})]))])
        assert await called(running) == "no"
        assert notes.calls == []
        assert await called(running) == "add({})"

    async def test_latency(self, host: HostFactory, notes: ScriptedProvider, virtual_clock: VirtualClock) -> None:
        """A call takes longer by the time given, and at random up to the jitter more."""
        running = await host(providers=[Faulty(notes, Faults([Rule(Latency(5, jitter=3))]))])
        taken = []
        for _ in range(20):
            begin = virtual_clock.monotonic()
            assert await called(running) == "add({})"
            taken.append(virtual_clock.monotonic() - begin)
        assert 5 <= min(taken) < max(taken) <= 8.001

    async def test_hang(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The provider did the work, and the answer never comes."""
        running = await host(providers=[Faulty(notes, Faults([Rule(Hang())]))])
        with anyio.move_on_after(3600) as scope:
            await called(running)
        assert scope.cancelled_caught
        assert [item.outcome for item in notes.calls] == [Outcome.SUCCESS]

    async def test_disconnect(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The provider did the work, the answer is lost, and the provider is down until it is back."""
        running = await host(providers=[Faulty(notes, Faults([Rule(Disconnect(30), on={1})]))])
        assert await called(running) == "notes: connection lost"
        assert len(notes.calls) == 1
        await anyio.sleep(29)
        assert await called(running) != "add({})"
        await anyio.sleep(2)
        assert await called(running) == "add({})"

    async def test_disconnect_tells_the_host(self, notes: ScriptedProvider) -> None:
        """Going down and coming up are events, and being down hides those of the provider."""
        heard: list[Any] = []
        faulty = Faulty(notes, Faults([Rule(Disconnect(30), on={1})]))
        await faulty.start(heard.append)
        with pytest.raises(MCPError) as caught:
            await faulty.request(make_call("tools/call", {"name": "add"}), {})
        assert caught.value.code == ErrorCode.UPSTREAM_UNAVAILABLE
        assert (faulty.capabilities("2026-07-28"), (await faulty.list(Kind.TOOLS, None)).entries) == ({}, ())
        notes.change(Kind.TOOLS, [])
        await anyio.sleep(31)
        assert heard == [ProviderDown("injected disconnect"), ProviderUp()]

    async def test_stop_ends_the_wait(self, notes: ScriptedProvider) -> None:
        """A provider that is stopped while it is down leaves no timer."""
        before = Inventory.take(timers=True)
        faulty = Faulty(notes, Faults([Rule(Disconnect(30))]))
        await faulty.start(lambda _: None)
        with pytest.raises(MCPError):
            await faulty.request(make_call("tools/call", {"name": "add"}), {})
        await faulty.stop()
        await check_leaks(before, timers=True)

    async def test_malformed(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """The result is something that the specification does not allow."""
        running = await host(providers=[Faulty(notes, Faults([Rule(Malformed())]))])
        result = await running.dispatch(make_call("tools/call", {"name": "add"}))
        assert result["content"] == "not a list"

    async def test_slow_stream(self, host: HostFactory, notes: ScriptedProvider, virtual_clock: VirtualClock) -> None:
        """Each notification comes late, and so does the answer; nothing is lost."""
        notes.script("add", [Progress(1), Progress(2), text("done")])
        running = await host(providers=[Faulty(notes, Faults([Rule(SlowStream(10))]))])
        begin, line = virtual_clock.monotonic(), Line()
        assert await called(running, line=line) == "done"
        assert [params["progress"] for _, params in line.sent] == [1, 2]
        assert virtual_clock.monotonic() - begin == pytest.approx(30)

    async def test_lists_only_if_named(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """A list fails if a rule names its method; the host's own catalog never does."""
        running = await host(providers=[Faulty(notes, Faults([Rule(Error("no"), methods={"tools/list"})]))])
        with pytest.raises(MCPError, match="no"):
            await running.dispatch(make_call("tools/list"))
        assert await called(running) == "add({})"


def test_engine_needs_no_pytest() -> None:
    """The module can be taken into a plugin: it imports neither pytest nor the rest of the kit."""
    look = "import sys, plughost_testing.faults; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    loaded = {name for name in found.stdout.split() if name.startswith(("plughost_testing", "pytest", "_pytest"))}
    assert loaded == {"plughost_testing", "plughost_testing.faults"}
