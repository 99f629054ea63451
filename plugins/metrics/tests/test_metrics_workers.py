"""Several processes as one: what is merged, and what the dead leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plughost import Host, HostConfig, create_host, load_config
from plughost_metrics import MetricsPlugin, _workers
from plughost_metrics._ledger import Distribution, Kind, Labels, Metric, Value
from plughost_metrics._plugin import SERVER
from plughost_metrics._workers import Workers, decode, encode
from plughost_testing import ScriptedProvider, make_call

LABELS: Labels = (("ok", True), ("tool", "add"))


def snapshot(number: float) -> list[Metric]:
    distribution = Distribution((1.0,))
    for _ in range(int(number)):
        distribution.record(0.5)
    values: dict[Kind, Value] = {
        Kind.COUNTER: number,
        Kind.UP_DOWN: number,
        Kind.GAUGE: number,
        Kind.HISTOGRAM: distribution,
    }
    return [Metric(kind.value, kind, "s", "Text", {LABELS: value}) for kind, value in values.items()]


def shown(metrics: list[Metric]) -> dict[str, float]:
    values = {metric.name: metric.series[LABELS] for metric in metrics}
    return {name: value.counts[0] if isinstance(value, Distribution) else value for name, value in values.items()}


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> Callable[[Workers], None]:
    """Ends a worker: the file that it leaves is a dead process's from then on."""
    dead: set[str] = set()
    monkeypatch.setattr(_workers, "_lives", lambda path: path.name not in dead)
    return lambda worker: dead.add(worker._own.name)


def test_json_keeps_everything() -> None:
    """What is written is what is read."""
    (counter, *_), again = snapshot(3), decode(encode(snapshot(3)))
    assert again[0] == counter
    assert shown(again) == shown(snapshot(3))
    value = again[-1].series[LABELS]
    assert isinstance(value, Distribution)
    assert (value.bounds, value.total) == ((1.0,), 1.5)


def test_whoever_is_asked_knows_all(tmp_path: Path) -> None:
    """Counters, amounts and distributions add up; of gauges the highest is shown."""
    one, two = Workers(tmp_path, "one"), Workers(tmp_path, "two")
    two.write(snapshot(2))
    total = {"counter": 5, "up_down": 5, "gauge": 3, "histogram": 5}
    assert shown(one.merge(snapshot(3))) == total
    assert shown(two.merge(snapshot(2))) == total


def test_the_dead_stay_counted(tmp_path: Path, lives: Callable[[Workers], None]) -> None:
    """No counter goes backwards when a worker dies, nor when the next ones add it up; what it was doing is gone."""
    one, two = Workers(tmp_path, "one"), Workers(tmp_path, "two")
    two.merge(snapshot(2))  # shown to Prometheus, so written down
    lives(two)
    alive = {"counter": 5, "up_down": 3, "gauge": 3, "histogram": 5}
    assert shown(one.merge(snapshot(3))) == alive
    for _ in range(3):
        Workers(tmp_path, "three")
        assert shown(one.merge(snapshot(3))) == alive
    assert not two._own.exists()


def test_crash_while_the_dead_are_added_up(
    tmp_path: Path, lives: Callable[[Workers], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies between writing the sum and removing the files counts nobody twice."""
    one, two = Workers(tmp_path, "one"), Workers(tmp_path, "two")
    two.write(snapshot(2))
    lives(two)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Workers(tmp_path, "three")
    assert two._own.exists()
    assert shown(one.merge(snapshot(3)))["counter"] == 5
    Workers(tmp_path, "three")
    assert shown(one.merge(snapshot(3)))["counter"] == 5
    assert not two._own.exists()


def test_processes(tmp_path: Path) -> None:
    """A process that has ended is dead; this one is not."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert not _workers._lives(tmp_path / f"{process.pid}-x.json")
    assert _workers._lives(tmp_path / f"{os.getpid()}-x.json")


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    """A worker that idles does not touch its file."""
    worker = Workers(tmp_path, "one")
    worker.write(snapshot(1))
    worker._own.unlink()
    worker.write(snapshot(1))
    assert not worker._own.exists()
    worker.write(snapshot(2))
    assert worker._own.exists()


@pytest.mark.anyio
async def test_numbers_are_counted_once_through_changes_of_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever replaces the plugin goes on with its file; disabled and enabled again, what was counted stays."""
    monkeypatch.setenv(_workers.FOLDER, str(tmp_path))
    provider = ScriptedProvider("notes", tools=["add"])

    def config(**keys: Any) -> HostConfig:
        return load_config({"plugins": {"metrics": keys}})

    async def counted(host: Host) -> dict[str, float]:
        plugin = host.instances["metrics"].plugin
        assert isinstance(plugin, MetricsPlugin)
        found = {metric.name: list(metric.series.values()) for metric in await plugin._collect()}
        calls = [sum(value.counts) for value in found[SERVER] if isinstance(value, Distribution)]
        [up] = [value for value in found["plughost.provider.up"] if isinstance(value, int | float)]
        return {"calls": sum(calls), "up": up}

    async with create_host(config(), providers={"notes": provider}) as host:
        await host.dispatch(make_call("tools/call", {"name": "add"}))
        assert await counted(host) == {"calls": 1, "up": 1}
        await host.reload(config(sample_layers=7))
        await host.dispatch(make_call("tools/call", {"name": "add"}))
        assert await counted(host) == {"calls": 2, "up": 1}
        await host.reload(config(enabled=False))
        provider.down()
        await host.reload(config())
        await host.dispatch(make_call("tools/list", {}))
        assert await counted(host) == {"calls": 3, "up": 0}
