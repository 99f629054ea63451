"""The command line reference, from the click commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
from plughost._cli import ForeignCommand, cli

from plughost_docs.markdown import table

ROOT_COMMAND = "plughost"


def section() -> str:
    """One heading per command, in alphabetical order."""
    return "\n".join(_describe(cli, click.Context(cli, info_name=ROOT_COMMAND), 2))


def _describe(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{context.command_path}`\n"
    yield inspect.cleandoc(command.help or command.get_short_help_str()).replace("\b\n", "") + "\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```console\n$ {usage}\n```\n"
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if options:
        yield table(("option", "meaning"), (_option(option, context) for option in options))
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(context)):
            child = command.get_command(context, name)
            assert child is not None
            if isinstance(child, ForeignCommand):
                yield from _foreign(child, context, level + 1)
            else:
                yield from _describe(child, click.Context(child, info_name=name, parent=context), min(level + 1, 4))


def _foreign(entry: ForeignCommand, context: click.Context, level: int) -> Iterator[str]:
    command = entry.load()
    heading, *rest = _describe(command, click.Context(command, info_name=entry.name, parent=context), level)
    yield from [heading, f"From `{entry.distribution}`.\n", *rest]


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    record = option.get_help_record(context)
    assert record is not None
    return f"`{record[0]}`", record[1]
