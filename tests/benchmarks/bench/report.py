"""What a run leaves: a Markdown table, JSON, a plot, and the table in the documentation."""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.rows import Goal, Measurement, Row
from bench.timing import Effort

BEGIN = "<!-- benchmarks: begin -->"
END = "<!-- benchmarks: end -->"


@dataclass(frozen=True, slots=True)
class Line:
    """A measurement and the row it belongs to."""

    row: str
    title: str
    measurement: Measurement


def environment() -> Mapping[str, str]:
    """What the figures depend on, without the name of the machine."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **{name: version(name) for name in ("plughost", "mcp", "fastmcp", "uvicorn")},
    }


@dataclass(slots=True)
class Report:
    """The outcome of a run."""

    effort: str
    lines: list[Line] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Row → why it could not be measured."""
    when: datetime = field(default_factory=lambda: datetime.now(UTC))

    def table(self) -> str:
        """The measurements as a Markdown table."""
        head = ["| id | what | median | p10 | goal | reached |", "| --- | --- | ---: | ---: | ---: | --- |"]
        rows = []
        previous = ""
        for line in self.lines:
            if line.row != previous:
                rows.append(f"| **{line.row}** | **{line.title}** | | | | |")
                previous = line.row
            it = line.measurement
            reached = {True: "yes", False: "no", None: ""}[it.reached]
            cells = (_figure(it.value, it.unit), _figure(it.p10, it.unit), str(it.goal or ""), reached)
            rows.append(f"| | {it.what} | {' | '.join(cells)} |")
        return "\n".join([*head, *rows])

    def summary(self) -> str:
        """The table, and what it was measured with."""
        setting = ", ".join(f"{name} {value}" for name, value in environment().items() if name != "machine")
        missing = "".join(f"\n\n{row} could not be measured: {reason}" for row, reason in self.failures.items())
        return f"{self.table()}{missing}\n\nMeasured {self.when:%Y-%m-%d} on {environment()['machine']}; {setting}."

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "when": self.when.isoformat(timespec="seconds"),
            "effort": self.effort,
            "environment": environment(),
            "measurements": [_json(line) for line in self.lines],
            "failures": self.failures,
        }

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write JSON and plot into `folder`, named by the time of the run; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{self.when:%Y%m%dT%H%M%SZ}"
        data, plot = stem.with_suffix(".json"), stem.with_suffix(".png")
        data.write_text(json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")
        self.figure().savefig(plot, dpi=120)
        return data, plot

    def publish(self, page: Path) -> None:
        """Replace what stands between the two marker comments of `page` by the table.

        Raises:
            ValueError: The page lacks the markers.
        """
        text = page.read_text("utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise ValueError(f"{page} has no place for the table; add the lines {BEGIN!r} and {END!r} to it")
        page.write_text(f"{before}{BEGIN}\n\n{self.summary()}\n\n{END}{after}", "utf-8")

    def figure(self) -> Figure:
        """Two panels: the contestants of B1, and each goal with how much of it is used up."""
        contestants = [line.measurement for line in self.lines if line.row == "B1"]
        goals = [
            (f"{line.row}  {line.measurement.what}", _used(line.measurement, line.measurement.goal))
            for line in self.lines
            if line.measurement.goal and line.measurement.goal.limit
        ]
        figure = Figure(figsize=(10, 2.5 + 0.35 * (len(contestants) + len(goals))), layout="constrained")
        FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, height_ratios=[len(contestants) + 1, len(goals) + 1])
        _bars(above, {it.what.replace("`", ""): it.value for it in contestants})
        above.set_title("CPU time of one call / bare MCPServer (log)")
        _bars(below, {what.replace("`", ""): used for what, used in goals})
        below.set_title("share of the goal that is used up: left of the line is reached (log)")
        return figure


def measure(rows: Iterable[Row], effort: Effort, tell: Callable[[str], object]) -> Report:
    """Measure `rows` and `tell` how it goes. One that fails is reported and does not stop the others."""
    report = Report(effort.name)
    for row in rows:
        before = time.perf_counter()
        try:
            report.lines += [Line(row.id, row.title, measurement) for measurement in row.measure(effort)]
            outcome = "measured"
        except Exception as error:  # noqa: BLE001 - whatever it was, the other rows are still of use
            report.failures[row.id] = repr(error)
            outcome = f"FAILED:\n{traceback.format_exc(limit=-3)}"
        tell(f"{row.id}: {time.perf_counter() - before:.1f} s, {outcome}")
    return report


def _bars(axes: Any, values: Mapping[str, float]) -> None:
    shown = {what: max(value, 0.01) for what, value in values.items()}
    colours = ["tab:green" if value <= 1 else "tab:orange" for value in shown.values()]
    bars = axes.barh(list(shown), list(shown.values()), color=colours)
    axes.bar_label(bars, labels=[f"{value:.2f}" for value in values.values()], padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()


def _used(measurement: Measurement, goal: Goal) -> float:
    """1.0 is exactly the goal, less is better than asked for."""
    if not goal.least:
        return measurement.value / goal.limit
    return goal.limit / measurement.value if measurement.value else float("inf")


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:,.0f} {unit}" if unit == "calls" else f"{value:.2f} {unit}".rstrip()


def _json(line: Line) -> dict[str, Any]:
    it = line.measurement
    return {
        "row": line.row,
        "title": line.title,
        "what": it.what,
        "median": it.value,
        "p10": it.p10,
        "unit": it.unit or "ratio",
        "goal": str(it.goal) if it.goal else None,
        "reached": it.reached,
    }
