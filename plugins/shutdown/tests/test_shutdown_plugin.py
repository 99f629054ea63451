"""The plugin in a host: who is refused, who is not, and what the host does afterwards."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from opentelemetry import trace
from plughost import ErrorCode, EventType, Host, MCPPlugin, Phase, PluginError, Shutdown
from plughost_shutdown import ShutdownConfig, ShutdownPlugin
from plughost_shutdown._flush import flush_telemetry
from plughost_testing import (
    Hang,
    HostFactory,
    Pause,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
    make_host,
    text,
)

pytestmark = pytest.mark.anyio
CALL = ("tools/call", {"name": "add", "arguments": {}})


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    provider = ScriptedProvider("notes", tools=["add"], resources=["note://1"])
    provider.script("add", [Pause(10), text("done")])
    return provider


def plugin(**config: Any) -> ShutdownPlugin:
    return ShutdownPlugin(ShutdownConfig.model_validate(config), name="shutdown")


async def test_a_new_call_is_refused_and_one_in_flight_finishes(
    host: HostFactory, provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """With a code that says "retry", and when."""
    running = await host(plugin(retry_after="2s"), providers=[provider])
    results: list[Any] = []

    async def call() -> None:
        results.append(await running.dispatch(make_call(*CALL)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await provider.received(1)
        tasks.start_soon(running.leave)
        await virtual_clock.sleep(1)
        with pytest.raises(MCPError) as caught:
            await running.dispatch(make_call(*CALL))
    assert caught.value.code == ErrorCode.SHUTTING_DOWN
    assert caught.value.data == {"retryAfterMs": 2000}
    assert results[0]["content"][0]["text"] == "done"
    assert await running.leave()


async def test_clients_get_a_moment_to_check_the_last_answer(
    host: HostFactory, provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """They list the tools for it: the host is there until nobody asks any more, and not for ever."""
    for lists, seconds in ((0, 10.5), (5, 12), (1000, 20)):
        running = await host(plugin(drain_timeout="20s"), providers=[provider])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.dispatch, make_call(*CALL))
            await provider.received(1)
            begin = virtual_clock.monotonic()
            tasks.start_soon(running.leave)
            await virtual_clock.sleep(10)
            for _ in range(lists):
                await virtual_clock.sleep(0.2)
                await running.dispatch(make_call("tools/list", {}))
                if running._left is not None:
                    break
        assert virtual_clock.monotonic() - begin == pytest.approx(seconds, abs=0.3)
        provider.calls.clear()


async def test_calls_are_served_through_the_grace(
    host: HostFactory, provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """The host is not ready from the first moment; whoever comes all the same is served."""
    running = await host(plugin(grace="5s"), providers=[provider])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: running.leave(listening=True))
        await virtual_clock.sleep(4)
        assert running.draining
        result = await running.dispatch(make_call(*CALL))
    assert result["content"][0]["text"] == "done"


async def test_there_is_no_grace_where_nobody_new_can_come(
    host: HostFactory, provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """On stdio, or in an application whose server has stopped listening."""
    running = await host(plugin(grace="5s"), providers=[provider])
    begin = virtual_clock.monotonic()
    assert await running.leave()
    assert virtual_clock.monotonic() == begin


async def test_a_hung_call_is_given_up_at_the_limit(
    host: HostFactory, provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """`drain_timeout` of the plugin counts, else that of the host."""
    for config, limit in (({"drain_timeout": "3s"}, 3), ({}, 8)):
        provider.script("add", Hang())
        running = await host(plugin(**config), providers=[provider], config={"host": {"drain_timeout": 8}})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.dispatch, make_call(*CALL))
            await provider.received(1)
            begin = virtual_clock.monotonic()
            assert not await running.leave()
            assert virtual_clock.monotonic() - begin == pytest.approx(limit)
            tasks.cancel_scope.cancel()
        provider.calls.clear()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "add", "arguments": {}, "requestState": "sealed", "inputResponses": {}}),
        ("tools/call", {"name": "add", "arguments": {}, "inputResponses": {}}),
        ("resources/unsubscribe", {"uri": "note://1"}),
        ("tools/list", {}),
        ("ping", {}),
    ],
)
async def test_what_began_before_goes_on(
    host: HostFactory, provider: ScriptedProvider, method: str, params: dict[str, Any]
) -> None:
    """A further round of a call, the end of a subscription, the list that an answer is checked against, a ping."""
    provider.script("resources/unsubscribe", {})
    shutdown = plugin()
    running = await host(shutdown, providers=[provider])
    await running.leave()
    version = "2025-11-25" if method == "resources/unsubscribe" else "2026-07-28"
    call = make_call(method, params, protocol_version=version)
    if method == "ping":

        async def pong(_: Any) -> dict[str, Any]:
            return {}

        assert await running.generation.observe(call, pong) == {}
    else:
        with suppress(MCPError):  # what the provider thinks of it is not our business
            await running.dispatch(call)
    assert shutdown.refused == 0


async def test_no_session_begins_while_the_host_drains(host: HostFactory, provider: ScriptedProvider) -> None:
    """`initialize` is refused with the same code."""
    running = await host(plugin(), providers=[provider])
    await running.leave()

    async def end(_: Any) -> dict[str, Any]:
        return {}

    with pytest.raises(MCPError) as caught:
        await running.generation.observe(make_call("initialize", {}), end)
    assert caught.value.code == ErrorCode.SHUTTING_DOWN


async def test_it_stands_before_everybody_else_in_admit(host: HostFactory) -> None:
    """No credentials are checked for a call that is refused anyway."""
    running = await host(RecordingMiddleware(Phase.ADMIT, name="auth", after=("shutdown",)), plugin())
    assert [layer["instance"] for layer in running.chain(method="tools/list")] == ["shutdown", "auth"]


async def test_each_phase_is_an_event(host: HostFactory, provider: ScriptedProvider) -> None:
    """A drain for maintenance, its end, and the exit."""
    watch = RecordingMiddleware(name="watch")
    running = await host(watch, plugin(), providers=[provider])
    for operation in ("drain", "resume"):
        await running.run_operation("shutdown", operation)
    await running.leave()
    await anyio.sleep(0.01)
    seen = [(event.type, event.details) for event in watch.events if event.subject == "shutdown"]
    maintenance = [
        (EventType.HOST_NOT_READY, {"phase": "grace", "leaving": False}),
        (EventType.HOST_DRAINING, {"phase": "draining", "leaving": False}),
        (EventType.HOST_DRAINED, {"phase": "drained", "leaving": False, "finished": True}),
        (EventType.HOST_READY, {"phase": "serving", "leaving": False}),
    ]
    exit_ = [(kind, {**details, "leaving": True}) for kind, details in maintenance[:3]]
    assert seen[-7:] == maintenance + exit_


# -- operations --------------------------------------------------------------------------------------------------------


async def test_a_host_drained_for_maintenance_serves_again(host: HostFactory, provider: ScriptedProvider) -> None:
    """`drain` waits until all calls are finished, and the process stays; `resume` takes it back."""
    running = await host(plugin(), providers=[provider])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.dispatch, make_call(*CALL))
        await provider.received(1)
        shown = await running.run_operation("shutdown", "show")
        assert shown == {"phase": "serving", "leaving": False, "in_flight": 1, "refused": 0}
        drained = await running.run_operation("shutdown", "drain")
    assert drained["phase"] == "drained"
    draining = [running.draining]
    with pytest.raises(MCPError):
        await running.dispatch(make_call(*CALL))
    assert (await running.run_operation("shutdown", "resume"))["refused"] == 1
    assert (await running.dispatch(make_call(*CALL)))["content"]
    assert [*draining, running.draining] == [True, False]


async def test_an_exit_cannot_be_taken_back(host: HostFactory) -> None:
    running = await host(plugin())
    await running.leave()
    with pytest.raises(PluginError, match="the process ends"):
        await running.run_operation("shutdown", "resume")


async def test_taken_out_during_maintenance_it_leaves_a_host_that_serves(
    host: HostFactory, provider: ScriptedProvider
) -> None:
    """And one that says it is ready."""
    running = await host(plugin(), providers=[provider])
    await running.run_operation("shutdown", "drain")
    await running.unregister("shutdown")
    assert not running.draining
    assert running.shutdown is None
    assert (await running.dispatch(make_call(*CALL)))["content"]


# -- afterwards --------------------------------------------------------------------------------------------------------


class Clinging(MCPPlugin):
    """Never lets go by itself."""

    async def unregister(self) -> None:
        await anyio.sleep_forever()


async def test_each_plugin_has_its_own_limit_to_let_go(virtual_clock: VirtualClock) -> None:
    """One that hangs is cancelled after `unregister_timeout`, and the others still have theirs."""
    plugins: list[MCPPlugin[Any]] = [Clinging(name="one"), plugin(unregister_timeout="2s"), Clinging(name="two")]
    async with make_host(*plugins, clock=virtual_clock):
        begin = virtual_clock.monotonic()
    assert virtual_clock.monotonic() - begin == pytest.approx(4)


async def test_the_host_knows_its_policy(host: HostFactory) -> None:
    """Shared under the host's own protocol."""
    shutdown = plugin(drain_timeout="3s", unregister_timeout="2s")
    running: Host = await host(shutdown)
    assert running.shutdown is shutdown
    assert isinstance(shutdown, Shutdown)
    assert (shutdown.drain_timeout, shutdown.unregister_timeout) == (3, 2)


class Exporter:
    """What an OpenTelemetry SDK has: a flush that blocks, until it is let go."""

    def __init__(self) -> None:
        self.limits: list[int] = []
        self.release = threading.Event()

    def force_flush(self, timeout_millis: int) -> bool:
        self.limits.append(timeout_millis)
        self.release.wait(10)
        raise RuntimeError("no collector")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_telemetry_is_flushed_within_its_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exporter that hangs is left behind, one that fails is logged."""
    exporter = Exporter()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: exporter)
    await flush_telemetry(0.05)
    assert exporter.limits == [50]
    assert "telemetry was not sent within 0.05 s" in caplog.text
    exporter.release.set()
    await flush_telemetry(5)
    assert "Exporter could not flush" in caplog.text
