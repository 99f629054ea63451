"""For plugins that bring a command of their own: its options, the config file, and the host that runs with it.

An entry point in the group `plughost.commands` adds a click command, here `plughost shelf`:

    [project.entry-points."plughost.commands"]
    shelf = "plughost_shelf.cli:shelf"

Such a module is imported whenever its command is named, so it should not import what only one of its options needs:

    import click
    from plughost.commands import config_option, instances_of, json_option, need_config, operate, print_json

    @click.command()
    @config_option
    @json_option
    def shelf(given, as_json):
        config = need_config(given)
        name, *_ = instances_of("shelf", config)
        for worker, answer in operate(config, name, "show").items():
            print_json(answer) if as_json else click.echo(f"{worker}: {answer['books']} books")

Errors of `plughost` that a command raises are shown as one line, with the exit code of their kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plughost._cli.options import config_option, json_option, need_config, print_json, print_table
from plughost._control import NoHostError, request
from plughost._document import plugin_tables, read_document
from plughost._errors import PlughostError

__all__ = [
    "NoHostError",
    "config_option",
    "instances_of",
    "json_option",
    "need_config",
    "operate",
    "plugin_tables",
    "print_json",
    "print_table",
    "read_document",
]


def instances_of(plugin: str, config: Path) -> list[str]:
    """The names of the instances of a plugin that a config file enables, in its order.

    Raises:
        ConfigError: The file cannot be read.
        PlughostError: There is none.
    """
    tables = plugin_tables(read_document(config)).items()
    found = [name for name, table in tables if table.get("plugin", name) == plugin and table.get("enabled", True)]
    if not found:
        raise PlughostError(f"{config} enables no {plugin} plugin; add [plugins.{plugin}]")
    return found


def operate(
    config: Path,
    instance: str,
    operation: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    wait: float | None = 10,
) -> dict[int, Any]:
    """What an operation answers in every worker of the host that runs with a config file, by process id.

    `wait` bounds each answer in seconds; what changes something may wait for calls in flight, so `None` there.

    Raises:
        NoHostError: No host runs with it.
        ControlError: A worker refused or failed. All were asked, whatever the first said.
    """
    return request(config, "operate", wait=wait, instance=instance, operation=operation, parameters=parameters or {})
