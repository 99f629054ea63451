"""The command line: a thin layer over the host. It imports neither `mcp` nor a plugin before a command needs them."""

from __future__ import annotations

from typing import Any

import click
import importlib_metadata

from plughost._cli import config, control, new, plugins, serving
from plughost._discovery import commands
from plughost._errors import ConfigError, PlughostError


class Misconfigured(click.ClickException):
    """A `ConfigError` on its way to stderr; any other error of ours is a plain `ClickException`, with exit code 1."""

    exit_code = 2


class ForeignCommand(click.Command):
    """A command of another distribution. What it does is known only when it is loaded; for `--help` it is not."""

    def __init__(self, entry: importlib_metadata.EntryPoint) -> None:
        self.entry = entry
        self.distribution = entry.dist.name if entry.dist else "an unknown distribution"
        super().__init__(entry.name, short_help=f"From {self.distribution}.")

    def load(self) -> click.Command:
        try:
            command = self.entry.load()
        except (Exception, SystemExit) as error:
            problem = f"cannot be loaded: {type(error).__name__}: {error}"
            raise click.ClickException(f"command {self.name!r} of {self.distribution} {problem}") from error
        if not isinstance(command, click.Command):
            raise click.ClickException(
                f"command {self.name!r} of {self.distribution} is no click command: {self.entry.value}"
            )
        return command


class CommandLine(click.Group):
    """The commands of the host, and those that installed distributions add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (command := super().get_command(ctx, cmd_name)) is not None:
            return command
        entry = commands().get(cmd_name)
        return ForeignCommand(entry) if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, ForeignCommand) else command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlughostError as error:
            kind = Misconfigured if isinstance(error, ConfigError) else click.ClickException
            raise kind(str(error)) from error


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="plughost")
def cli() -> None:
    """A thin host for MCP servers with pip-installable, hot-swappable plugins."""


for command in (serving.serve, serving.run, plugins.plugins, control.ctl, control.chain, config.config, new.new):
    cli.add_command(command)
