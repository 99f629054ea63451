"""`plughost config check|show|schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from plughost._cli.options import config_option, counted, json_option, need_config, print_json
from plughost._document import read_document
from plughost._errors import ConfigError

if TYPE_CHECKING:
    from plughost._cli.loading import Loaded
    from plughost._config import HostConfig

REDACTED = "**********"


@click.group()
def config() -> None:
    """Check and show the configuration."""


def _load(given: str | None) -> tuple[HostConfig, dict[str, Loaded]]:
    from plughost._cli.loading import load_instances  # noqa: PLC0415 - imports pydantic
    from plughost._config import load_config  # noqa: PLC0415 - imports pydantic

    loaded = load_config(need_config(given))
    return loaded, load_instances(loaded)


@config.command()
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, given: str | None, *, as_json: bool) -> None:
    """Validate everything, the plugins' own keys too.

    Imports the plugins that the file enables, and starts nothing. Exit code 2 on faults.
    """
    try:
        loaded, instances = _load(given)
    except ConfigError as error:
        if not as_json:
            raise
        print_json(
            {"ok": False, "faults": [{"where": fault.where, "problem": fault.problem} for fault in error.faults]}
        )
        ctx.exit(2)
    if as_json:
        print_json({"ok": True, "faults": []})
    else:
        providers, plugins = counted(loaded.providers, "provider"), counted(instances, "plugin")
        click.echo(f"{loaded.source}: ok ({providers}, {plugins} enabled)")


@config.command()
@config_option
@json_option
def show(given: str | None, *, as_json: bool) -> None:
    """Show the configuration in force.

    Defaults are included, secrets are redacted (G6), and references are shown as the file has them.
    """
    loaded, instances = _load(given)
    assert loaded.source is not None
    values = loaded.model_dump(mode="json", exclude_none=True)
    for name, table in loaded.plugins.items():
        own = (
            instances[name].settings.model_dump(mode="json", exclude_none=True)
            if name in instances
            else _hide(table.own)
        )
        values["plugins"][name] |= own
    for name, provider in loaded.providers.items():
        if provider.python is None:
            values["providers"][name] |= _provider_values(provider.model_extra or {}, instances)
    values = _as_written(values, read_document(loaded.source))
    if as_json:
        print_json(values)
    else:
        import tomlkit  # noqa: PLC0415 - every command reads this module, and `serve` too would wait for it

        click.echo(tomlkit.dumps(values), nl=False)


def _provider_values(keys: Mapping[str, Any], instances: dict[str, Loaded]) -> Any:
    for item in instances.values():
        if item.kind.provider_config is not None:
            return item.kind.provider_config.model_validate(keys).model_dump(mode="json", exclude_none=True)
    return _hide(keys)


def _hide(value: Any) -> Any:
    """What no model describes may be a secret."""
    return {key: _hide(item) for key, item in value.items()} if isinstance(value, Mapping) else REDACTED


def _as_written(value: Any, written: Any) -> Any:
    """`value` with each `${…}` reference as the file has it."""
    if isinstance(value, dict) and isinstance(written, dict):
        return {key: _as_written(item, written.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(written, list):
        return [_as_written(item, old) for item, old in zip(value, written, strict=True)]
    return written if isinstance(written, str) and "${" in written else value


@config.command()
def schema() -> None:
    """Print the JSON Schema of everything installed, for editors."""
    from plughost._cli.schema import config_schema  # noqa: PLC0415 - imports every plugin

    document, problems = config_schema()
    for problem in problems:
        click.echo(f"Warning: {problem}", err=True)
    print_json(document)
