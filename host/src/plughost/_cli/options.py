"""What the commands share: their common options, and how they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence, Sized
from pathlib import Path
from typing import Any, TypeVar

import click

from plughost._discovery import discover
from plughost._document import DEFAULT_FILE, find_config, plugin_tables, read_document
from plughost._errors import ConfigError, Fault

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def config_option(command: CommandT) -> CommandT:
    """Add `--config FILE`, which the command gets as `given: str | None`; it is for `need_config`."""
    text = f"Config file; default ./{DEFAULT_FILE}, then [tool.plughost] of ./pyproject.toml."
    return click.option("--config", "given", metavar="FILE", help=text)(command)


def json_option(command: CommandT) -> CommandT:
    """Add `--json`, which the command gets as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def complete_name(ctx: click.Context, _: click.Parameter, typed: str) -> list[str]:
    """What Tab offers for the name of an instance or a plugin: those of the config, and those that are installed."""
    try:
        config = find_config(ctx.params.get("given"))
        tables = plugin_tables(read_document(config)) if config else {}
    except ConfigError:
        tables = {}
    return sorted(name for name in tables.keys() | discover() if name.startswith(typed))


def need_config(given: str | None) -> Path:
    """The config file, where a command cannot do without.

    Raises:
        ConfigError: There is none.
    """
    path = find_config(given)
    if path is None:
        problem = f"not found in {Path.cwd()}; create it, or name a config file with --config"
        raise ConfigError([Fault("", problem)], source=DEFAULT_FILE)
    return path


def counted(things: Sized, name: str) -> str:
    """`1 plugin`, `2 plugins`."""
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def print_json(value: Any) -> None:
    """Print JSON for scripts; what JSON has no word for as text."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; the last one as long as it likes. A row is one line."""
    lines = [header, *([" ".join(cell.split()) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        click.echo("  ".join([*cells, line[-1]]).rstrip())
