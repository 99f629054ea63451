"""The plugin in a host: what is recorded, where, and what becomes of calls that cannot be."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from event_stores import Box, collected
from mcp import MCPError
from meters import collecting
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    Host,
    HostEvent,
    MCPPlugin,
    Middleware,
    Phase,
    Principal,
    Refusal,
    Result,
    SecretBox,
    hookimpl,
)
from plughost_events import Event, EventsConfig, EventsPlugin, EventStore, EventsURL, NewEvent
from plughost_events._database import Database
from plughost_events._metrics import meter
from plughost_events._record import of_principal
from plughost_testing import (
    ClientFactory,
    Hang,
    HostFactory,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
)

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["add", "slow"], prompts=["ask"], resources=["note://1"])


class Gate(MCPPlugin):
    """Says who calls, and refuses the tool `slow`."""

    who: Principal | None = Principal("ada", "https://issuer", "acme")

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.admit, Phase.ADMIT), Middleware(self.guard, Phase.GUARD, methods={"tools/call"})]

    async def admit(self, call: Call, call_next: CallNext) -> Result:
        call.principal = self.who
        return await call_next(call)

    async def guard(self, call: Call, call_next: CallNext) -> Result:
        if call.target == "slow" and call.params.get("arguments") == {"refuse": True}:
            raise Refusal(ErrorCode.UNAUTHORIZED, "No, since sesame")
        return await call_next(call)


def events_plugin(**config: Any) -> EventsPlugin:
    config = {"url": EventsURL("memory://"), "host_events": False, **config}
    return EventsPlugin(EventsConfig.model_validate(config), name="events")


def store_of(host: Host) -> EventStore:
    return host.get(EventStore)  # type: ignore[type-abstract]  # shared under its protocol


async def recorded(host: Host) -> list[Event]:
    await host.clock.sleep(1)  # longer than events gather
    return await collected(store_of(host).read())


def tool(name: str = "add", **arguments: Any) -> Call:
    return make_call("tools/call", {"name": name, "arguments": arguments})


@contextmanager
def broken(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A block in which nothing can be written."""

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", refuse)
        yield


# -- what is recorded ---------------------------------------------------------------------------------------------


async def test_a_call_is_an_event(host: HostFactory, provider: ScriptedProvider) -> None:
    """Method, target, provider, outcome, duration, caller, tenant and trace are in it."""
    running = await host(events_plugin(), Gate(), providers=[provider])
    meta = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    await running.dispatch(make_call("tools/call", {"name": "add", "arguments": {}, "_meta": meta}))
    (event,) = await recorded(running)
    data = dict(event.data or {})
    assert (event.type, event.stream, event.version) == ("call.completed", "principal:acme|https://issuer|ada", 1)
    assert data.pop("duration_us") >= 0
    assert data.pop("request_id") is not None
    assert data == {
        "method": "tools/call",
        "outcome": "success",
        "target": "add",
        "provider": "notes",
        "protocol": "2026-07-28",
        "principal": "ada",
        "issuer": "https://issuer",
        "tenant": "acme",
        "trace": TRACE,
    }


async def test_refusals_failures_and_cancellations_are_events(host: HostFactory, provider: ScriptedProvider) -> None:
    """Each has its type and its code; a tool's own failure is marked, an exception named by its class alone (G6)."""

    failed = {"content": [], "isError": True}
    provider.script("add", KeyError("sesame"), MCPError(-32602, "sesame"), failed, Hang())
    running = await host(events_plugin(), Gate(), providers=[provider])
    for call in (tool("slow", refuse=True), tool(), tool()):
        with pytest.raises(MCPError):
            await running.dispatch(call)
    await running.dispatch(tool())
    with anyio.move_on_after(5):
        await running.dispatch(tool())
    events = await recorded(running)
    told = [(event.type, (event.data or {}).get("code"), (event.data or {}).get("tool_error")) for event in events]
    assert told == [
        ("call.refused", ErrorCode.UNAUTHORIZED, None),
        ("call.failed", None, None),
        ("call.refused", -32602, None),
        ("call.completed", None, True),
        ("call.cancelled", None, None),
    ]
    assert (events[1].data or {})["error"] == "KeyError"
    assert "sesame" not in json.dumps([dict(event.data or {}) for event in events])


async def test_no_argument_and_no_result_is_recorded(host: HostFactory, provider: ScriptedProvider) -> None:
    """Only what the operator names is in an event, whole up to a limit; URIs lose what may be secret (G6)."""
    provider.script("add", {"content": [], "structuredContent": {"order": 7, "secret": "sesame"}})
    running = await host(events_plugin(arguments=["city", "blob"], results=["order"]), providers=[provider])
    await running.dispatch(tool(city="Oslo", password="sesame", blob="x" * 5000))
    with suppress(MCPError):
        await running.dispatch(make_call("resources/read", {"uri": "note://ada:sesame@host/path?token=sesame#sesame"}))
    first, second = await recorded(running)
    assert first.data is not None
    assert first.data["arguments"] == {"city": "Oslo", "blob": {"omitted": "5002 bytes"}}
    assert first.data["results"] == {"order": 7}
    assert second.data is not None
    assert second.data["target"] == "note://host/path"
    assert "sesame" not in str([first, second])


async def test_what_happens_to_the_host_is_recorded(host: HostFactory) -> None:
    """Host events have a stream of their own; pings leave no trace."""
    running = await host(events_plugin(host_events=True))
    running.publish(HostEvent(EventType.BREAKER_OPENED, "breaker", {"key": "notes"}))
    events = await recorded(running)
    assert {event.stream for event in events} == {"host:plughost"}
    assert events[-1].type == "breaker.opened"
    assert events[-1].data == {"subject": "breaker", "details": {"key": "notes"}}


@pytest.mark.parametrize(
    ("aggregate", "streams"),
    [
        ("principal", {"principal:acme|https://issuer|ada": 5}),
        ("tenant", {"tenant:acme": 5}),
        ("session", {"principal:acme|https://issuer|ada": 5}),
        ("tool", {"tool:notes/add": 1, "prompt:notes/ask": 1, "provider:notes": 2, "provider:none": 1}),
    ],
)
async def test_aggregates(
    host: HostFactory, provider: ScriptedProvider, aggregate: str, streams: dict[str, int]
) -> None:
    """`aggregate` says whose stream a call is in; names that a client made up make no streams."""
    running = await host(events_plugin(aggregate=aggregate), Gate(), providers=[provider])
    await running.dispatch(tool())
    await running.dispatch(make_call("prompts/get", {"name": "ask"}))
    await running.dispatch(make_call("resources/read", {"uri": "note://1"}))
    with suppress(MCPError):
        await running.dispatch(tool("made-up"))
    await running.dispatch(make_call("tools/list", {}))
    await recorded(running)
    assert await store_of(running).streams() == streams


async def test_without_a_principal(host: HostFactory, provider: ScriptedProvider) -> None:
    """Callers that nobody knows share a stream."""
    running = await host(events_plugin(aggregate="tenant"), providers=[provider])
    await running.dispatch(tool())
    (event,) = await recorded(running)
    assert event.stream == "tenant:none"


async def test_names_that_no_database_takes(host: HostFactory, provider: ScriptedProvider) -> None:
    """What a client or an issuer wrote into a name is recorded with such characters replaced."""
    gate = Gate()
    gate.who = Principal("a\0da\ud800" + "x" * 600)
    running = await host(events_plugin(), gate, providers=[provider])
    with suppress(MCPError):
        await running.dispatch(tool("half\ud800"))
    (event,) = await recorded(running)
    assert event.stream.startswith("principal:a?da?xxx")
    assert event.data is not None
    assert event.data["target"] == "half?"


async def test_both_eras(host: HostFactory, client: ClientFactory, provider: ScriptedProvider) -> None:
    """A client's calls are recorded; where there is a session, it can be the aggregate."""
    running = await host(events_plugin(aggregate="session"), providers=[provider])
    caller = await client(running)
    await caller.call_tool("add", {})
    events = await recorded(running)
    assert "tools/call" in {(event.data or {})["method"] for event in events}


async def test_events_of_plugins_stand_beside(host: HostFactory, provider: ScriptedProvider) -> None:
    """Other plugins append to streams of their own."""
    running = await host(events_plugin(), providers=[provider])
    await store_of(running).append("order:1", [NewEvent("order.placed")], expected_version=0)
    await running.dispatch(tool())
    assert [event.stream for event in await recorded(running)] == ["order:1", "principal:anonymous"]


class Sealer(MCPPlugin):
    provides = (SecretBox,)

    def __init__(self) -> None:
        super().__init__(name="sealer")
        self.box = Box()

    async def register(self, host: Host) -> None:
        host.provide(SecretBox, self.box)  # type: ignore[type-abstract]  # shared under its protocol


async def test_sealed_with_the_encryption_plugin(host: HostFactory, provider: ScriptedProvider) -> None:
    """With a secret box data is sealed with the keys of the caller's tenant, whatever order plugins come in."""
    plugin, sealer = events_plugin(), Sealer()
    running = await host(plugin, Gate(), sealer, providers=[provider])
    await running.dispatch(tool())
    (event,) = await recorded(running)
    assert (event.data or {})["target"] == "add"
    assert sealer.box.tenants == ["acme"]
    (row,) = await plugin.store._reading.run(Database.page, 0)
    assert b"target" not in row.data


# -- when it cannot be recorded -----------------------------------------------------------------------------------


async def test_sync_and_closed(host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call's answer is withheld, later calls never reach the provider, all is well when the store is."""
    watch = RecordingMiddleware(name="watch")
    running = await host(events_plugin(durability="sync"), watch, providers=[provider])
    with broken(running, monkeypatch):
        with pytest.raises(MCPError, match="The call ran, and its answer is withheld") as caught:
            await running.dispatch(tool())
        assert (caught.value.code, caught.value.error.data["retryAfterMs"]) == (ErrorCode.UPSTREAM_UNAVAILABLE, 1000)
        with pytest.raises(MCPError, match="The call was refused: it could not be recorded"):
            await running.dispatch(tool())
        assert len(provider.calls) == 1
        (_, check) = next(item for item in running.health_checks if item[0] == "events")
        with pytest.raises(Exception, match="memory:// is away: OperationalError: unable to open database file"):
            await check.check()
        assert (await running.run_operation("events", "show"))["reason"].startswith("OperationalError")
    await running.clock.sleep(5)
    await check.check()
    await running.dispatch(tool())
    assert len(await recorded(running)) == 2  # the first call's too, later
    types = [event.type for event in watch.events if event.type.startswith("backend")]
    assert types == [EventType.BACKEND_DOWN, EventType.BACKEND_UP]


async def test_async_and_open(
    host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls pass; as many events as the queue takes wait for the store, the rest is counted, told and logged once."""
    watch = RecordingMiddleware(name="watch")
    running = await host(events_plugin(queue=10), watch, providers=[provider])
    with broken(running, monkeypatch):
        for _ in range(30):
            await running.dispatch(tool())
            await running.clock.sleep(0.1)
        shown = await running.run_operation("events", "show")
    assert (shown["waiting"], shown["lost"]) == (10, 20)
    assert sum(event.type == EventType.FAIL_OPEN for event in watch.events) == 20
    assert caplog.text.count("calls pass without being recorded") == 1
    await running.clock.sleep(5)
    assert len(await recorded(running)) == 10


async def test_async_and_closed(host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait for nothing, and are refused once the store is known to be away; the handshake never is."""
    running = await host(events_plugin(fail_mode="closed"), providers=[provider])
    with broken(running, monkeypatch):
        await running.dispatch(tool())
        await running.clock.sleep(1)
        with pytest.raises(MCPError, match="could not be recorded"):
            await running.dispatch(tool())
        plugin = running.instances["events"].plugin
        assert isinstance(plugin, EventsPlugin)

        async def answer(_: Call) -> Result:
            return {"fine": True}

        assert await plugin.record(make_call("initialize", {}), answer) == {"fine": True}
    await running.clock.sleep(5)
    assert len(await recorded(running)) == 1


async def test_metrics_tell_what_waits(
    host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store is away it is down, and the age of what waits grows; nothing once the plugin is gone."""
    with collecting(meter) as collector:
        running = await host(events_plugin(), providers=[provider])

        def seen() -> list[float]:
            found = collector.points()
            return [found[f"plughost.events.{name}"]["plugin=events"] for name in ("up", "queued", "lag")]

        assert seen() == [1, 0, 0]
        with broken(running, monkeypatch):
            await running.dispatch(tool())
            await running.clock.sleep(3)
            assert seen() == pytest.approx([0, 1, 3], abs=0.1)
        await running.clock.sleep(5)
        assert seen() == [1, 0, 0]
        await running.unregister("events")
        assert collector.points() == {}


async def test_sync_and_open(host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits for its event as long as `timeout`, and is answered; the event is stored when it can be."""
    watch = RecordingMiddleware(name="watch")
    running = await host(events_plugin(durability="sync", fail_mode="open", timeout=2), watch, providers=[provider])
    with broken(running, monkeypatch):
        begin = running.clock.monotonic()
        await running.dispatch(tool())
        assert running.clock.monotonic() - begin == pytest.approx(2, abs=0.1)
        await running.clock.sleep(0.1)
        assert [event.type for event in watch.events if event.type == EventType.FAIL_OPEN]
    await running.clock.sleep(5)
    assert len(await recorded(running)) == 1


async def test_a_queue_that_is_full_slows_calls_down(
    host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call takes its place before it begins; with none free it waits, and nothing is lost or refused."""
    running = await host(events_plugin(queue=10, timeout="1m"), providers=[provider])
    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            tasks.start_soon(running.dispatch, tool())
    assert len(await recorded(running)) == 200
    assert (await running.run_operation("events", "show"))["lost"] == 0


async def test_an_error_is_not_hidden_by_the_store(
    host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that failed is answered with its own error, also when its event cannot be stored."""
    provider.script("add", MCPError(-32050, "my own"))
    running = await host(events_plugin(durability="sync"), providers=[provider])
    with broken(running, monkeypatch), pytest.raises(MCPError, match="my own"):
        await running.dispatch(tool())


async def test_leaving_writes_what_waits(tmp_path: Path, host: HostFactory, provider: ScriptedProvider) -> None:
    """What a host has not written when the plugin leaves is written first; what cannot be is told."""
    url = EventsURL(f"sqlite:///{tmp_path}/events.db")
    running = await host(events_plugin(url=url, gather=1), providers=[provider])
    for _ in range(5):
        await running.dispatch(tool())
    await running.unregister("events")
    await running.register(events_plugin(url=url))
    assert len(await recorded(running)) == 5


async def test_leaving_while_the_store_is_away(
    host: HostFactory, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits no longer than `timeout`, and says how many events are lost."""
    running = await host(events_plugin(timeout=3), providers=[provider])
    with broken(running, monkeypatch):
        await running.dispatch(tool())
        await running.unregister("events")
    assert "events: 1 events are lost: OperationalError" in caplog.text


# -- operation ----------------------------------------------------------------------------------------------------


async def test_operations(host: HostFactory, provider: ScriptedProvider) -> None:
    """Operators see the head, the newest events, the streams, and whether the chain is whole."""
    running = await host(events_plugin(aggregate="tool"), providers=[provider])
    for _ in range(3):
        await running.dispatch(tool())
    await running.dispatch(tool("slow"))
    await recorded(running)
    assert await running.run_operation("events", "streams", {"prefix": "tool:"}) == {
        "tool:notes/add": 3,
        "tool:notes/slow": 1,
    }
    newest = await running.run_operation("events", "read", {"last": 2})
    assert [(line["position"], line["method"]) for line in newest] == [(3, "tools/call"), (4, "tools/call")]
    (one,) = await running.run_operation("events", "read", {"stream": "tool:notes/add", "last": 1})
    assert one["version"] == 3
    assert (await running.run_operation("events", "verify"))["ok"] is True
    assert await running.run_operation("events", "prune") == {"pruned": 0}
    assert (await running.run_operation("events", "show"))["head"].startswith("4:")


async def test_old_events_leave_by_themselves(host: HostFactory, provider: ScriptedProvider, tmp_path: Path) -> None:
    """With `keep`, events go to the archive when they are old."""
    running = await host(events_plugin(keep="1d", archive=tmp_path / "archive"), providers=[provider])
    await running.dispatch(tool())
    await running.clock.sleep(20 * 3600)
    await running.dispatch(tool())
    await running.clock.sleep(5 * 3600)
    assert [event.position for event in await recorded(running)] == [2]
    assert [path.name for path in (tmp_path / "archive").iterdir()] == ["events-000000000001-000000000001.jsonl.gz"]


async def test_a_new_config_keeps_the_store(host: HostFactory, provider: ScriptedProvider) -> None:
    """What needs no other store is taken in place; what does is not."""
    plugin = events_plugin()
    running = await host(plugin, providers=[provider])
    same = {"url": "memory://", "host_events": False}
    assert await plugin.reconfigure(
        EventsConfig.model_validate({**same, "aggregate": "tool", "ignore": ["tools/list"]})
    )
    await running.dispatch(tool())
    await running.dispatch(make_call("tools/list", {}))
    assert [event.stream for event in await recorded(running)] == ["tool:notes/add"]
    assert not await plugin.reconfigure(EventsConfig.model_validate({**same, "queue": 20}))


def test_secrets_are_not_shown() -> None:
    """A dump or message of the config holds neither the password nor the key of the chain (G6)."""
    config = EventsConfig.model_validate({"url": "postgresql://ada:sesame@db/plughost", "chain_key": "sesame" * 10})
    assert "sesame" not in f"{config} {config!r} {config.model_dump_json()} {config.url}"


async def test_cancelled_calls_leave_nothing(host: HostFactory, provider: ScriptedProvider) -> None:
    """Places in the queue are given back, however calls end."""
    provider.script("add", Hang())
    plugin = events_plugin(queue=10)
    running = await host(plugin, providers=[provider])
    for _ in range(30):
        task = asyncio.create_task(running.dispatch(tool()))
        await running.clock.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})
    await recorded(running)
    assert plugin.store.writer.taken == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Principal("ada", tenant="acme"), Principal("ada", tenant="umbrella")),
        (Principal("ada", tenant="acme"), Principal("ada")),
        (Principal("ada", "https://a"), Principal("ada", "https://b")),
        (Principal("b|c", "a"), Principal("c", "a|b")),
        (Principal("ada", tenant="acme"), Principal("ada", "acme")),
    ],
)
def test_two_callers_have_two_streams(one: Principal, other: Principal) -> None:
    """The same subject at another tenant, or of another issuer, is somebody else."""
    calls = [make_call("tools/call", {"name": "add"}) for _ in range(2)]
    calls[0].principal, calls[1].principal = one, other
    assert of_principal(calls[0], lambda _: True) != of_principal(calls[1], lambda _: True)
