"""`plughost pins`: see what is quarantined, and approve it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from plughost.commands import (
    NoHostError,
    config_option,
    instances_of,
    json_option,
    need_config,
    operate,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from plughost import Provider

PATIENCE = 20.0
"""Seconds that providers get to come up, where no host runs."""


@click.group()
def pins() -> None:
    """Definitions of tools, prompts and resources: what is approved, and what is quarantined.

    Asks the running host; where none runs, the providers of the config.
    """


@pins.command("list")
@config_option
@json_option
def list_(given: str | None, *, as_json: bool) -> None:
    """Every definition that is listed, with its state."""
    found = _ask(given, "list")
    if as_json:
        print_json(found)
        return
    print_table(
        ("STATE", "KIND", "NAME", "SHA256"), [(item["state"], item["kind"], _name(item), _sha(item)) for item in found]
    )


@pins.command()
@config_option
@json_option
@click.argument("names", metavar="[NAME]…", nargs=-1)
def diff(given: str | None, names: tuple[str, ...], *, as_json: bool) -> None:
    """What is quarantined, beside what was approved of it."""
    found = _ask(given, "diff", names=names)
    if as_json:
        print_json(found)
    elif not found:
        click.echo("nothing is quarantined")
    for item in () if as_json else found:
        _print_compared(item)


@pins.command()
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="All that is not suspicious; forget what is gone.")
@click.argument("names", metavar="[NAME[@SHA256]]…", nargs=-1)
def approve(given: str | None, names: tuple[str, ...], *, as_json: bool, everything: bool) -> None:
    """Write definitions, as they are listed now, into the lock file.

    NAME is a name, PROVIDER/NAME or PROVIDER/KIND/NAME. With @SHA256 it is approved only if it still is what you saw.
    """
    if not names and not everything:
        raise click.UsageError("name what to approve, or use --all; see: plughost pins diff")
    found = _ask(given, "approve", names=names, all=everything)
    if as_json:
        print_json(found)
    else:
        for name in found["approved"]:
            click.echo(f"approved {_legible(name)}")
        for name in found["forgotten"]:
            click.echo(f"forgot {_legible(name)}")
        for item in found["left"]:
            _print_listed(item)
    if found["left"]:
        click.get_current_context().exit(1)


@pins.command()
@config_option
@json_option
def verify(given: str | None, *, as_json: bool) -> None:
    """Hold what is listed against the lock file. Exit code 1 if anything differs."""
    found = _ask(given, "show")
    if as_json:
        print_json(found)
    else:
        if found["fault"]:
            click.echo(found["fault"])
        for item in found["quarantined"]:
            _print_listed(item)
        for item in found["missing"]:
            click.echo(f"{_name(item)}: pinned, and not listed any more")
        click.echo(
            f"{found['approved']} approved, {len(found['quarantined'])} quarantined, {len(found['missing'])} missing"
        )
    if found["fault"] or found["quarantined"] or found["missing"]:
        click.get_current_context().exit(1)


# -- whom to ask ------------------------------------------------------------------------------------------------------


def _ask(given: str | None, operation: str, **parameters: Any) -> Any:
    """What the operation answers on the running host, or on one made for it.

    Raises:
        PlughostError: The config has no pinning plugin, or the operation failed.
    """
    config = need_config(given)
    name, *_ = instances_of("pinning", config)
    try:
        return next(iter(operate(config, name, operation, parameters, wait=None).values()))
    except NoHostError:
        import anyio  # noqa: PLC0415 - only where no host runs

        with _quiet():
            return anyio.run(_ask_providers, config, name, operation, parameters)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave to the answer what the plugin would log."""
    logger = logging.getLogger("plughost.pinning")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


async def _ask_providers(config: Path, instance: str, operation: str, parameters: Mapping[str, Any]) -> Any:
    """Run the operation on a host of the providers alone, which trusts nobody by itself."""
    import anyio  # noqa: PLC0415 - only where no host runs
    from plughost import PluginTable, create_host, load_config  # noqa: PLC0415 - same

    loaded = load_config(config)
    needed = {name: table for name, table in loaded.plugins.items() if (table.plugin or name) == "upstream"}
    table = {**loaded.plugins[instance].model_dump(), "first_use": "quarantine"}
    needed[instance] = PluginTable.model_validate(table)
    async with create_host(loaded.model_copy(update={"plugins": needed})) as host:
        providers = host.generation.catalog.providers.values()
        down = _down(providers)
        with anyio.move_on_after(PATIENCE):
            while down := _down(providers):  # noqa: ASYNC110 - it is over as soon as they are up
                await anyio.sleep(0.1)
        if down:
            click.echo(f"not up, and left out: {', '.join(down)}", err=True)
        await host.refresh(set())
        return await host.run_operation(instance, operation, parameters)


def _down(providers: Iterable[Provider]) -> list[str]:
    from mcp_types.version import LATEST_MODERN_VERSION  # noqa: PLC0415 - only where no host runs

    return [provider.name for provider in providers if not provider.capabilities(LATEST_MODERN_VERSION)]


# -- what is printed --------------------------------------------------------------------------------------------------


def _print_listed(item: Mapping[str, Any]) -> None:
    click.echo(f"{_name(item)}: {item['state']}; {_legible(item['why'])}")
    if item["arguments"]:
        click.echo(f"  arguments: {_legible(', '.join(item['arguments']))}")
    for finding in item["findings"]:
        click.echo(f"  {finding['severity']}: {_legible(finding['what'])}")


def _print_compared(item: Mapping[str, Any]) -> None:
    _print_listed(item)
    for when in ("before", "now"):
        if item[when] is not None:
            click.echo(f"  {when}: {_legible(item[when]['description'])}")
            click.echo(f"    inputs: {_legible(', '.join(item[when]['inputs'])) or 'none'}")
    if item["sha256"] is not None and item["state"] != "approved":
        for name, value in item["changed"].items():
            click.echo(f"  {_legible(name)}: {_legible(json.dumps(value, ensure_ascii=False))}")
        click.echo(f"  approve it with: plughost pins approve {_name(item)}@{item['sha256']}")


def _name(item: Mapping[str, Any]) -> str:
    return _legible(f"{item['provider']}/{item['name']}")


def _sha(item: Mapping[str, Any]) -> str:
    return (item["sha256"] or "-")[:12]


def _legible(text: str) -> str:
    """What a terminal may be given: no escape sequences, and nothing that cannot be seen."""
    from plughost_pinning._lockfile import legible  # noqa: PLC0415 - only where something is printed

    return legible(text)
