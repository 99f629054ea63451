"""`plughost rbac explain`: who may do what, and by which rule, from the config alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click
from plughost import PlughostError, PluginTable, Principal
from plughost.commands import config_option, json_option, need_config, plugin_tables, print_json, read_document

from plughost_rbac._config import Kind


@click.group()
def rbac() -> None:
    """Who may do what."""


@rbac.command()
@click.argument("principal")
@click.argument("target", metavar="TOOL")
@click.option("--role", "roles", multiple=True, help="A role or group that the token names; may be repeated.")
@click.option("--scope", "scopes", multiple=True, help="A scope of the token; may be repeated.")
@click.option("--issuer", default="", help="Who issued the token.")
@click.option("--arg", "given_arguments", multiple=True, metavar="NAME=VALUE", help="An argument; JSON or text.")
@click.option("--kind", type=click.Choice(["tool", "prompt", "resource", "method"]), default="tool", show_default=True)
@click.option("--provider", help="Whose it is, where several could have it; TOOL is then its name there.")
@click.option("--plugin", "instance", help="The instance to ask, where there are several.")
@config_option
@json_option
@click.pass_context
def explain(
    ctx: click.Context,
    *,
    principal: str,
    target: str,
    roles: tuple[str, ...],
    scopes: tuple[str, ...],
    issuer: str,
    given_arguments: tuple[str, ...],
    kind: str,
    provider: str | None,
    instance: str | None,
    given: str | None,
    as_json: bool,
) -> None:
    """Say whether PRINCIPAL may call TOOL, and which rule decides. The exit code is 0 if so, 1 if not.

    Asks the config, not a running host. PRINCIPAL is a subject; '' is somebody who is not signed in.
    """
    path = need_config(given)
    document = read_document(path)
    policy = _policy(path, document, instance)
    place, name = _place(document, cast("Kind", kind), target, provider)
    who = Principal(principal, issuer, roles=frozenset(roles), scopes=frozenset(scopes))
    found = policy.explain(who, cast("Kind", kind), place, name, dict(map(_argument, given_arguments)))
    if as_json:
        print_json(found)
    else:
        subject = repr(principal) if principal else "somebody who is not signed in"
        where = f"{kind} {name!r}" + (f" of {place!r}" if place else "")
        words = {"allowed": "may call", "hidden": "does not see", "refused": "may not call"}[found["outcome"]]
        click.echo(f"{subject} {words} the {where}")
        click.echo("".join(f"  {line}\n" for line in found["because"]), nl=False)
        click.echo(f"  roles: {', '.join(found.get('roles', ())) or 'none'}")
    ctx.exit(0 if found["outcome"] == "allowed" else 1)


def _policy(path: Path, document: dict[str, Any], instance: str | None) -> Any:
    """The policy that a config holds.

    Raises:
        PlughostError: The config enables no rbac plugin, or several, or its policy is refused.
    """
    from plughost import parse_plugin_config  # noqa: PLC0415 - only this command needs the plugin

    from plughost_rbac._file import read_policy  # noqa: PLC0415
    from plughost_rbac._plugin import RBACPlugin  # noqa: PLC0415
    from plughost_rbac._policy import Policy  # noqa: PLC0415

    tables = {name: PluginTable.model_validate(table) for name, table in plugin_tables(document).items()}
    found = {name: table for name, table in tables.items() if (table.plugin or name) == "rbac" and table.enabled}
    if instance is not None:
        found = {name: table for name, table in found.items() if name == instance}
    if len(found) != 1:
        names = ", ".join(found)
        raise PlughostError(
            f"{path} enables {names}; choose one with --plugin" if found else f"{path} enables no such rbac plugin"
        )
    (name, table), *_ = found.items()
    config = cast("Any", parse_plugin_config(RBACPlugin, table, name))
    return Policy.of(config, read_policy(path.parent / config.policy) if config.policy else None)


def _place(document: Mapping[str, Any], kind: Kind, target: str, provider: str | None) -> tuple[str, str]:
    """The provider of a public name, and the name there, as far as the config tells.

    Raises:
        PlughostError: Several providers could have it.
    """
    tables = document.get("providers", {})
    if provider is not None:
        return provider, target
    prefixes = {name: table.get("prefix", "") if kind in ("tool", "prompt") else "" for name, table in tables.items()}
    able = {name: prefix for name, prefix in prefixes.items() if target.startswith(prefix)}
    longest = max(map(len, able.values()), default=0)
    able = {name: prefix for name, prefix in able.items() if len(prefix) == longest}
    if len(able) != 1:
        names = ", ".join(able or prefixes) or "those of plugins"
        raise PlughostError(f"{target!r} could be of {names}; name one with --provider")
    (name, prefix), *_ = able.items()
    return name, target.removeprefix(prefix)


def _argument(text: str) -> tuple[str, Any]:
    """A name and its value.

    Raises:
        PlughostError: There is no equals sign.
    """
    name, sign, value = text.partition("=")
    if not sign:
        raise PlughostError(f"--arg is {text!r}; write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
