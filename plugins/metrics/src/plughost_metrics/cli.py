"""`plughost metrics`: what Grafana and Prometheus need, to be written to files."""

from __future__ import annotations

from importlib.resources import files
from typing import IO

import click


@click.group()
def metrics() -> None:
    """Print the Grafana dashboard and the Prometheus alert rules."""


def _command(name: str, file: str, text: str) -> None:
    @metrics.command(name, help=text)
    @click.option("--output", "-o", type=click.File("w", encoding="utf-8"), default="-", help="File to write to.")
    def write(output: IO[str]) -> None:
        output.write((files("plughost_metrics") / file).read_text("utf-8"))


_command("dashboard", "dashboard.json", "Print the Grafana dashboard, to be imported.")
_command("rules", "rules.yml", "Print the Prometheus alert rules, for rule_files.")
