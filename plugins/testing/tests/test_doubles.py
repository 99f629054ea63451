"""Providers and clients that follow a script, and the middleware that takes notes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer
from mcp_types import LoggingMessageNotificationParams
from plughost import Call, ErrorCode, Host, Kind, Outcome, Phase, ProviderError, Result, unknown_target
from plughost_testing import (
    ClientFactory,
    Hang,
    HostFactory,
    Line,
    Log,
    MockClient,
    Pause,
    Progress,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
    make_host,
    prompt,
    text,
    tool,
)

pytestmark = pytest.mark.anyio


def said(result: Any) -> str:
    words: str = result.content[0].text
    return words


@pytest.fixture
def notes() -> ScriptedProvider:
    return ScriptedProvider(
        "notes", tools=["add"], prompts=["ask"], resources=["note://1"], templates=["note://{name}"]
    )


@pytest.fixture
async def caller(host: HostFactory, client: ClientFactory, notes: ScriptedProvider) -> Client:
    return await client(await host(providers=[notes]))


class TestScriptedProvider:
    async def test_lists_what_it_was_given(self, caller: Client) -> None:
        """Clients of both eras see its tools, prompts, resources and templates."""
        assert [item.name for item in (await caller.list_tools()).tools] == ["add"]
        assert [item.name for item in (await caller.list_prompts()).prompts] == ["ask"]
        assert [item.uri for item in (await caller.list_resources()).resources] == ["note://1"]
        assert [item.name for item in (await caller.list_resource_templates()).resource_templates] == ["note://{name}"]

    async def test_answers_without_a_script(self, caller: Client) -> None:
        """Each call has an answer of its own, from its name and arguments."""
        assert said(await caller.call_tool("add", {"a": 1})) == 'add({"a": 1})'
        assert (await caller.get_prompt("ask")).messages[0].content.type == "text"
        assert (await caller.read_resource("note://1")).contents[0].uri == "note://1"

    async def test_follows_the_script(self, caller: Client, notes: ScriptedProvider) -> None:
        """Each call takes the next reply; the last one stays."""
        notes.script("add", text("one"), MCPError(-32000, "busy"), text("three"))
        assert said(await caller.call_tool("add", {})) == "one"
        with pytest.raises(MCPError, match="busy"):
            await caller.call_tool("add", {})
        assert [said(await caller.call_tool("add", {})) for _ in range(2)] == ["three", "three"]

    async def test_steps_take_their_time(
        self, caller: Client, notes: ScriptedProvider, virtual_clock: VirtualClock
    ) -> None:
        """A reply may pause and report progress before it answers, on virtual time."""
        seen: list[tuple[float, float]] = []
        begin = virtual_clock.monotonic()

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            seen.append((virtual_clock.monotonic() - begin, progress))

        notes.script("add", [Pause(10), Progress(0.5), Pause(20), text("done")])
        assert said(await caller.call_tool("add", {}, progress_callback=heard)) == "done"
        assert seen == [(10.0, 0.5)]
        assert virtual_clock.monotonic() - begin == pytest.approx(30)

    async def test_sends_log_messages(self, host: HostFactory, client: ClientFactory, notes: ScriptedProvider) -> None:
        """A reply may log before it answers."""
        heard: list[LoggingMessageNotificationParams] = []

        async def hear(params: LoggingMessageNotificationParams) -> None:
            heard.append(params)

        notes.script("add", [Log("working", "warning"), Pause(1), text("done")])
        caller = await client(await host(providers=[notes]), logging_callback=hear, log_level="info")
        await caller.call_tool("add", {})
        assert [(item.data, item.level) for item in heard] == [("working", "warning")]

    async def test_hangs_until_cancelled(self, caller: Client, notes: ScriptedProvider) -> None:
        """A call that hangs is cancelled with the client's patience; the log says so."""
        notes.script("add", Hang())
        with anyio.move_on_after(60):
            await caller.call_tool("add", {})
        await anyio.sleep(1)
        assert notes.running == []
        assert [item.outcome for item in notes.calls] == [Outcome.CANCELLED]

    async def test_answers_with_a_function(self, caller: Client, notes: ScriptedProvider) -> None:
        """A function answers from the call and its parameters."""

        async def double(call: Call, params: Any) -> Result:
            return text(str(2 * params["arguments"]["n"]))

        notes.script("add", double)
        assert said(await caller.call_tool("add", {"n": 21})) == "42"

    async def test_remembers_calls(self, caller: Client, notes: ScriptedProvider) -> None:
        """The log holds method, name, parameters and outcome, in order."""
        notes.script("add", RuntimeError("lost"))
        with pytest.raises(MCPError):
            await caller.call_tool("add", {"a": 1})
        await caller.read_resource("note://1")
        first, second = notes.calls
        assert (first.method, first.name, first.params["arguments"]) == ("tools/call", "add", {"a": 1})
        assert first.outcome is Outcome.FAILURE
        assert (second.method, second.name, second.outcome) == ("resources/read", "note://1", Outcome.SUCCESS)

    async def test_can_be_waited_for(self, caller: Client, notes: ScriptedProvider) -> None:
        """A test can wait until a call has arrived, while it runs."""
        notes.script("add", [Pause(60), text("done")])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.call_tool, "add", {})
            await notes.received(1)
            assert [item.name for item in notes.running] == ["add"]

    async def test_tells_of_a_changed_list(
        self, host: HostFactory, client: ClientFactory, notes: ScriptedProvider
    ) -> None:
        """A changed list reaches the host, and a client that lists again."""
        running = await host(providers=[notes])
        caller = await client(running)
        notes.change(Kind.TOOLS, ["add", tool("remove", description="Take one away.")])
        await settled(running)
        assert [item.name for item in (await caller.list_tools()).tools] == ["add", "remove"]

    async def test_goes_down_and_comes_up(
        self, host: HostFactory, client: ClientFactory, notes: ScriptedProvider
    ) -> None:
        """While it is down its names are gone and calls are refused; then all is back."""
        running = await host(providers=[notes])
        caller = await client(running)
        notes.down("maintenance")
        await settled(running)
        with pytest.raises(MCPError) as caught:
            await running.dispatch(make_call("tools/call", {"name": "add"}))
        assert caught.value.code in (ErrorCode.UPSTREAM_UNAVAILABLE, unknown_target("tools/call", "add").code)
        notes.up()
        await settled(running)
        assert [item.name for item in (await caller.list_tools()).tools] == ["add"]

    async def test_tells_of_a_watched_resource(self, notes: ScriptedProvider) -> None:
        """Only a resource that the host watches is reported."""
        heard: list[object] = []
        await notes.start(heard.append)
        notes.touch("note://1")
        assert heard == []
        await notes.subscribe("note://1")
        notes.touch("note://1")
        assert len(heard) == 1
        await notes.unsubscribe("note://1")
        notes.touch("note://1")
        assert len(heard) == 1

    async def test_can_fail_to_start(self) -> None:
        """A provider that cannot start stops the start of the host."""
        broken = ScriptedProvider(fails_to_start=ProviderError("scripted", "no such command"))
        with pytest.raises(ProviderError, match="no such command"):
            async with make_host(providers=[broken]):
                pass


async def settled(host: Host) -> None:
    """Let the host follow what its providers told it."""
    del host
    await anyio.sleep(0.1)


async def test_sdk_servers_are_taken(host: HostFactory) -> None:
    """`providers` may hold an SDK server; it is called by its own name."""
    server = MCPServer("clock")
    running = await host(providers=[server, ScriptedProvider("notes")])
    assert list(running.generation.catalog.providers) == ["clock", "notes"]


class TestMockClient:
    @pytest.mark.parametrize("mode", ["auto", "legacy"])
    async def test_is_a_client(self, mode: str) -> None:
        """It is the SDK's client with all its methods, in either era; what it was asked is in its log."""
        async with MockClient(tools=["add"], prompts=[prompt("ask", description="Why?")], mode=mode) as client:
            assert isinstance(client, Client)
            client.script("add", text("3"), MCPError(-32000, "busy"))
            assert said(await client.call_tool("add", {"a": 1, "b": 2})) == "3"
            with pytest.raises(MCPError, match="busy"):
                await client.call_tool("add", {})
            assert (await client.list_prompts()).prompts[0].description == "Why?"
            assert [item.params["arguments"] for item in client.calls] == [{"a": 1, "b": 2}, {}]

    async def test_lets_go_of_its_host(self, no_leaks: None) -> None:
        """Nothing of it is left after the block."""
        async with MockClient(tools=["add"]) as client:
            await client.list_tools()


class TestRecordingMiddleware:
    async def test_records_calls_and_outcomes(
        self, host: HostFactory, client: ClientFactory, notes: ScriptedProvider
    ) -> None:
        """It notes what came in, where it went, how it came back, and when."""
        recording = RecordingMiddleware(Phase.GUARD, methods={"tools/call"})
        caller = await client(await host(recording, providers=[notes]))
        notes.script("add", [Pause(5), text("one")], MCPError(-32603, "broken"))
        await caller.call_tool("add", {"a": 1})
        with pytest.raises(MCPError):
            await caller.call_tool("add", {})
        await caller.list_prompts()
        first, _ = recording.records
        assert recording.outcomes == [Outcome.SUCCESS, Outcome.FAILURE]
        assert (first.method, first.target, first.provider) == ("tools/call", "add", "notes")
        assert first.ended is not None
        assert first.ended - first.began == pytest.approx(5)

    async def test_records_events(self, host: HostFactory, notes: ScriptedProvider) -> None:
        """It notes what the host tells its plugins."""
        recording = RecordingMiddleware()
        await host(recording, providers=[notes])
        notes.down()
        await anyio.sleep(0.1)
        assert "provider.down" in [event.type for event in recording.events]


class TestMakeCall:
    async def test_middleware_can_be_called_alone(self) -> None:
        """A call made by hand goes through one middleware without a host."""

        async def sign(call: Call, call_next: Any) -> Result:
            await call.dispatch.progress(1.0)
            return {**await call_next(call), "_meta": {"signed": True}}

        async def end(call: Call) -> Result:
            return text(str(call.target))

        line = Line()
        result = await sign(make_call("tools/call", {"name": "add"}, line=line), end)
        assert result["_meta"] == {"signed": True}
        assert line.sent == [("notifications/progress", {"progress": 1.0})]

    async def test_line_answers_questions(self) -> None:
        """The line answers what it was told to, and has no way back for anything else."""
        line = Line({"roots/list": {"roots": []}})
        assert await line.send_raw_request("roots/list", None) == {"roots": []}
        with pytest.raises(MCPError):
            await line.send_raw_request("sampling/createMessage", {})
