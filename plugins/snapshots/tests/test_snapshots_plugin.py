"""The plugin in a host: when it takes snapshots, and what operators see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plughost import Host, PluginError
from plughost_events import EventsConfig, EventsPlugin, EventStore, EventsURL, NewEvent
from plughost_snapshots import Snapshots, SnapshotsConfig, SnapshotsPlugin
from plughost_testing import HostFactory, VirtualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


async def hosting(host: HostFactory, **config: Any) -> tuple[Host, EventStore]:
    events = EventsPlugin(EventsConfig(url=EventsURL("memory://"), host_events=False), name="events")
    running = await host(events, SnapshotsPlugin(SnapshotsConfig(**config), name="snapshots"))
    return running, running.get(EventStore)  # type: ignore[type-abstract]  # shared under its protocol


async def ticks(store: EventStore, stream: str, count: int) -> None:
    for _ in range(count):
        await store.append(stream, [NewEvent("tick")])


async def settled(host: Host) -> None:
    for _ in range(5):
        await host.clock.sleep(0.01)


async def test_every_so_many_events(host: HostFactory) -> None:
    """A snapshot is taken each time a stream's version passes a multiple of `every`, alone or within a batch."""
    running, store = await hosting(host, every=10)
    await ticks(store, "one", 20)
    await settled(running)
    await ticks(store, "one", 5)
    await ticks(store, "two", 9)
    await store.append("three", [NewEvent("tick")] * 35)
    await settled(running)
    kept = await store.snapshots("activity")
    assert kept == {"one": 20, "three": 35}


async def test_every_so_many_seconds(host: HostFactory) -> None:
    """Streams with new events get a snapshot when the time has come, others do not."""
    running, store = await hosting(host, every=100, seconds=60)
    await ticks(store, "one", 3)
    await running.clock.sleep(59)
    assert await store.snapshots("activity") == {}
    await running.clock.sleep(2)
    assert await store.snapshots("activity") == {"one": 3}
    taken = running.get(Snapshots).taken
    await running.clock.sleep(300)
    assert running.get(Snapshots).taken == taken


async def test_reducers_of_ones_own(host: HostFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:function` beside the config is a reducer, for the streams that its glob names."""
    (tmp_path / "snapshot_totals.py").write_text(
        "def total(state, event):\n    return {'total': state.get('total', 0) + event.data['amount']}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    running, store = await hosting(host, every=2, reducers={"snapshot_totals:total": "order:*"})
    await store.append("order:7", [NewEvent("paid", {"amount": 3}), NewEvent("paid", {"amount": 4})])
    await ticks(store, "other", 4)
    await settled(running)
    shown = await running.run_operation("snapshots", "show")
    assert shown["kept"] == {"snapshot_totals:total": {"order:7": 2}}
    state = await running.run_operation("snapshots", "state", {"stream": "order:7", "reducer": "snapshot_totals:total"})
    assert (state["state"], state["snapshot"], state["complete"]) == ({"total": 7}, 2, True)


async def test_a_reducer_that_cannot_be_imported_stops_the_start(host: HostFactory) -> None:
    """The message names the reducer and what is wrong with it."""
    with pytest.raises(PluginError, match="the reducer 'no_such_module:f' failed: ModuleNotFoundError"):
        await hosting(host, reducers={"no_such_module:f": "*"})


async def test_a_reducer_that_raises_harms_nobody(
    host: HostFactory, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, events are stored all the same, and the other reducers' snapshots are taken."""
    (tmp_path / "snapshot_broken.py").write_text("def broken(state, event):\n    raise KeyError('x')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    running, store = await hosting(host, every=2, reducers={"snapshot_broken:broken": "*", "activity": "*"})
    await ticks(store, "one", 2)
    await settled(running)
    assert "no snapshot of 'one' was taken by 'snapshot_broken:broken'" in caplog.text
    assert await store.snapshots("activity") == {"one": 2}


async def test_operations(host: HostFactory) -> None:
    """A state can be looked at, at any version, kept now, and dropped."""
    running, store = await hosting(host, every=100)
    await ticks(store, "one", 5)
    assert (await running.run_operation("snapshots", "take", {"stream": "one"}))["version"] == 5
    state = await running.run_operation("snapshots", "state", {"stream": "one"})
    assert (state["state"]["events"], state["snapshot"], state["events"]) == (5, 5, 0)
    state = await running.run_operation("snapshots", "state", {"stream": "one", "at": 3})
    assert (state["state"]["events"], state["version"]) == (3, 3)
    assert await running.run_operation("snapshots", "clear", {"stream": "two"}) == {"dropped": 0}
    assert await running.run_operation("snapshots", "clear") == {"dropped": 1}


async def test_a_new_policy_is_taken_in_place(host: HostFactory) -> None:
    """Reconfigured, it goes on with what it knows; a config that fails changes nothing."""
    running, store = await hosting(host, every=100)
    plugin = running.instances["snapshots"].plugin
    assert await plugin.reconfigure(SnapshotsConfig(every=2, seconds=5))
    await ticks(store, "one", 2)
    await settled(running)
    assert await store.snapshots("activity") == {"one": 2}
    with pytest.raises(Exception, match="no_such_module"):
        await plugin.reconfigure(SnapshotsConfig(reducers={"no_such_module:f": "*"}))
    assert running.get(Snapshots).reducers == {"activity": "*"}
