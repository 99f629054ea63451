"""Measure, and print one table: `python tests/benchmarks/run.py [--only B1,B3] [--quick] [--publish]`.

JSON and a plot go to `tests/benchmarks/results/`. The exit code is 1 if a row could not be measured; a goal that
is not reached is a finding, not a failure. Nothing is published unless all rows are there.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

import click
from bench import churn, events, gateway, limits, per_call, startup
from bench.report import measure
from bench.rows import ROWS, Row
from bench.timing import FULL, QUICK, TINY, Effort

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "explanation" / "performance.md"
MODULES = (per_call, gateway, churn, startup, limits, events)
"""Importing them fills `ROWS`."""


def chosen(_context: click.Context, _parameter: click.Parameter, value: str) -> list[Row]:
    known = sorted(ROWS, key=lambda name: int(name[1:]))
    names = [name.strip() for name in value.split(",") if name.strip()] or known
    if unknown := [name for name in names if name not in ROWS]:
        raise click.BadParameter(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
    return [ROWS[name] for name in names]


@click.command()
@click.option("--only", "rows", default="", metavar="B1,B3", callback=chosen, help="Measure these rows only.")
@click.option("--quick", "effort", flag_value=QUICK, type=click.UNPROCESSED, help="Less exact, in a fifth of the time.")
@click.option("--tiny", "effort", flag_value=TINY, type=click.UNPROCESSED, help="Only prove that it runs.")
@click.option("--results", default=HERE / "results", type=click.Path(path_type=Path), help="Folder for JSON and plot.")
@click.option("--publish", is_flag=True, help=f"Write the table into {PAGE.name} of the documentation.")
def main(rows: list[Row], effort: Effort | None, results: Path, *, publish: bool) -> None:
    """Measure the host against its neighbours and print one table."""
    if publish and (effort or len(rows) < len(ROWS)):
        raise click.UsageError("--publish needs a full run: leave out --only, --quick and --tiny")
    logging.basicConfig(level=logging.WARNING)  # before any server does, and at the same level for all of them
    report = measure(rows, effort or FULL, partial(click.echo, err=True))
    written = report.write(results)
    click.echo(report.summary())
    click.echo("\n".join(f"wrote {path}" for path in written), err=True)
    if publish and not report.failures:
        report.publish(PAGE)
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
