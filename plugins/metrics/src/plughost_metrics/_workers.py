"""The numbers of all processes of `plughost serve --workers`, merged by whichever of them is scraped.

They share a folder, as long as their supervisor lives. Each keeps its numbers there in a file of its own, written anew
every second and before it answers a scrape. So what was ever shown stands in a file, and no counter goes backwards when
a worker dies: counters and histograms of the dead stay, what they had in flight does not. A new worker adds the files
of the dead up in one, so that crashes do not slow scrapes down.

Why files: sockets to the others lose the dead, and Prometheus's own way, a memory map written by each observation,
costs every call half a microsecond and more.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plughost_metrics._ledger import Distribution, Kind, Metric, Value, merged

FOLDER = "PLUGHOST_WORKERS_FOLDER"
"""Environment variable by which `plughost serve` tells a worker the folder."""
DEAD = "dead.json"


class Workers:
    """This worker's view of the folder. All of it blocks, so it belongs in a thread.

    `era` names its numbers: who goes on with the same ones goes on with the same file.
    """

    def __init__(self, folder: Path, era: str) -> None:
        self._folder = folder
        self._own = folder / f"{os.getpid()}-{era}.json"
        self._written: list[Any] | None = None
        with self._locked():
            self._bury()

    def write(self, metrics: Sequence[Metric]) -> None:
        """Keep this worker's numbers in its file."""
        content = encode(metrics)
        if content != self._written:
            _replace(self._own, content)
            self._written = content

    def leave(self, metrics: Sequence[Metric]) -> None:
        """Keep what stays true when this worker counts no more."""
        self.write(_lasting(metrics))

    def merge(self, own: Sequence[Metric]) -> list[Metric]:
        """The numbers of all workers that there are and were."""
        self.write(own)
        with self._locked():
            dead, buried = self._grave()
            others = [_read(path) for path in self._files() if path != self._own and path.name not in buried]
        return merged([own, *others, dead])

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*-*.json"))

    def _grave(self) -> tuple[list[Metric], list[str]]:
        """The sum of the dead, and the names of the files that it is made of."""
        with suppress(FileNotFoundError):
            content = json.loads((self._folder / DEAD).read_text("utf-8"))
            return decode(content["metrics"]), content["buried"]
        return [], []

    def _bury(self) -> None:
        """Add up the files of the dead. Those are named beside the sum: a crash in between counts nobody twice."""
        total, buried = self._grave()
        dead = [path for path in self._files() if not _lives(path)]
        new = [_read(path) for path in dead if path.name not in buried]
        if new:
            names = [path.name for path in dead]
            _replace(self._folder / DEAD, {"metrics": encode(merged([total, *new])), "buried": names})
        for path in dead:
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def encode(metrics: Iterable[Metric]) -> list[Any]:
    """Metrics as JSON; exemplars are left out."""
    return [
        [
            metric.name,
            metric.kind.value,
            metric.unit,
            metric.description,
            [[labels, _encode(value)] for labels, value in metric.series.items()],
        ]
        for metric in metrics
    ]


def decode(content: Iterable[Any]) -> list[Metric]:
    """Metrics from their JSON."""
    return [
        Metric(name, Kind(kind), unit, text, {_labels(labels): _decode(value) for labels, value in series})
        for name, kind, unit, text, series in content
    ]


def _encode(value: Value) -> Any:
    return [value.bounds, value.counts, value.total] if isinstance(value, Distribution) else value


def _decode(value: Any) -> Value:
    if isinstance(value, list):
        bounds, counts, total = value
        return Distribution(tuple(bounds), counts, total)
    number: float = value
    return number


def _labels(pairs: Iterable[Sequence[Any]]) -> tuple[Any, ...]:
    return tuple((name, value) for name, value in pairs)


def _read(path: Path) -> list[Metric]:
    """The numbers of a worker; of one that ended, those that are still true."""
    lives = _lives(path)
    metrics = decode(json.loads(path.read_text("utf-8")))
    return metrics if lives else _lasting(metrics)


def _lasting(metrics: Iterable[Metric]) -> list[Metric]:
    """Those that are still true when their process has ended."""
    return [metric for metric in metrics if metric.kind in {Kind.COUNTER, Kind.HISTOGRAM}]


def _lives(path: Path) -> bool:
    try:
        os.kill(int(path.name.partition("-")[0]), 0)
    except ProcessLookupError:
        return False
    return True


def _replace(path: Path, content: Any) -> None:
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps(content, separators=(",", ":")), "utf-8")
    new.replace(path)
