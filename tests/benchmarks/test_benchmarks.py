"""The harness measures, and leaves a table, JSON and a plot. No test here judges speed."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from bench import rows, timing, wire
from bench.report import BEGIN, END, Line, Report, measure
from bench.rows import Goal, Measurement, Row

pytestmark = pytest.mark.anyio

RUN = Path(__file__).with_name("run.py")


def test_the_command_leaves_a_table_json_and_a_plot(tmp_path: Path) -> None:
    """`run.py` prints one Markdown table and writes the same as JSON, and a PNG."""
    argv = [sys.executable, str(RUN), "--tiny", "--only", "B1,B3", "--results", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    assert "| **B1** |" in done.stdout
    assert "| | host, no plugins |" in done.stdout
    (data,) = tmp_path.glob("*.json")
    (plot,) = tmp_path.glob("*.png")
    measurements = json.loads(data.read_text())["measurements"]
    assert {entry["row"] for entry in measurements} == {"B1", "B3"}
    assert all(entry["median"] for entry in measurements if entry["row"] == "B1")
    assert plot.read_bytes().startswith(b"\x89PNG")


async def test_contestants_take_turns() -> None:
    """A turn of one contestant is followed by a turn of the next, so that ratios are of neighbours in time."""
    order: list[str] = []

    async def a() -> None:
        order.append("a")

    async def b() -> None:
        order.append("b")

    effort = replace(timing.TINY, rounds=3, calls=1)
    seconds = await timing.interleave({"a": a, "b": b}, effort)
    assert order == ["a", "b"] + ["a", "a", "b", "b"] * effort.rounds  # the first call of a turn is not timed
    assert [len(turns) for turns in seconds.values()] == [effort.rounds, effort.rounds]
    assert gc.isenabled()


async def test_a_reply_may_come_in_pieces() -> None:
    """The load generator waits for the whole reply, whether its length is announced or it is chunked."""
    heads = (b"content-length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    for reply in heads:
        connection = wire.Connection()
        connection.connection_made(_Sink())
        exchange = asyncio.ensure_future(connection.exchange())
        await asyncio.sleep(0)
        for byte in b"HTTP/1.1 200 OK\r\n" + reply:
            assert not connection.answered
            connection.data_received(bytes([byte]))
        assert (await exchange).endswith(reply)


class _Sink(asyncio.Transport):
    """A transport that takes everything."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: object) -> None:
        assert data


def test_ratios_are_made_turn_by_turn() -> None:
    """A slow moment that hits both contestants of a turn leaves the ratio as it is."""
    assert timing.ratios([1.0, 10.0, 2.0], [2.0, 20.0, 4.0]) == [0.5, 0.5, 0.5]


def test_p10_is_the_low_end() -> None:
    """A tenth of the values stays below the p10."""
    assert timing.p10([float(value) for value in range(100, -1, -1)]) == 10.0


@pytest.mark.parametrize(
    ("goal", "value", "reached"),
    [(Goal(0.4), 0.4, True), (Goal(0.4), 0.41, False), (Goal(0.5, least=True), 0.5, True), (Goal(0), 1, False)],
)
def test_a_goal_is_a_limit(goal: Goal, value: float, reached: bool) -> None:  # noqa: FBT001 - a table of cases
    """The limit itself is reached."""
    assert goal.reached(value) is reached


def test_a_row_that_fails_does_not_stop_the_others() -> None:
    """What could not be measured is named with its reason; the rest is in the table."""

    def fails(_: timing.Effort) -> Iterable[Measurement]:
        raise OSError("no such upstream")

    def works(_: timing.Effort) -> Iterable[Measurement]:
        return [rows.measured("a figure", [1.0, 2.0, 3.0])]

    told: list[str] = []
    report = measure([Row("B1", "one", fails), Row("B2", "two", works)], timing.TINY, told.append)
    assert report.failures == {"B1": "OSError('no such upstream')"}
    assert "| | a figure | 2.00 | 1.00 |  |  |" in report.table()
    assert "no such upstream" in told[0]


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    """Publishing replaces the old table and touches nothing else of the page."""
    page = tmp_path / "performance.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    Report("full", [Line("B1", "one call", Measurement("host", 0.35, goal=Goal(0.4)))]).publish(page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| | host | 0.35 |  | ≤ 0.4 | yes |" in text


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    """The message names the page and the lines to add."""
    page = tmp_path / "performance.md"
    page.write_text("no markers")
    with pytest.raises(ValueError, match=r"performance\.md has no place for the table; add the lines '<!-- bench"):
        Report("full").publish(page)
    assert page.read_text() == "no markers"
