"""`plughost plugins`: what is installed, configured and running; and switching it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plughost import _control as control
from plughost._cli.options import (
    complete_name,
    config_option,
    counted,
    json_option,
    need_config,
    print_json,
    print_table,
)
from plughost._discovery import PluginSource, discover, find_source, load_class
from plughost._document import find_config, parse_document, plugin_tables, read_document
from plughost._errors import ConfigError, ControlError, PluginError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Row = dict[str, Any]


@click.group()
def plugins() -> None:
    """List, inspect and switch plugins."""


# ---------------------------------------------------------------------------------------------------------------------
# Looking
# ---------------------------------------------------------------------------------------------------------------------


def survey(config: Path | None) -> list[Row]:
    """A row for each instance in the config or on the running host, then one for each plugin that none uses."""
    sources = discover()
    tables = plugin_tables(read_document(config)) if config else {}
    rows = {}
    for name, table in tables.items():
        kind = str(table.get("plugin") or name)
        try:
            row = _row(name, find_source(kind, sources, config.parent if config else Path(), instance=name))
        except PluginError as error:
            row = _row(name, PluginSource(kind, "", status="failed", reason=error.problem, remedy=error.remedy))
        if table.get("enabled") is False:
            row |= {"status": "disabled", "reason": "enabled = false", "remedy": f"plughost plugins enable {name}"}
        elif row["status"] == "available":
            row["reason"] = "enabled, but no host is running"
        rows[name] = row
    for running in _running(config):
        name = running["name"]
        row = rows.get(name) or _row(name, sources.get(running["plugin"], PluginSource(running["plugin"], "")))
        rows[name] = {**row, **running, "plugin": row["plugin"]}
    used = {row["plugin"] for row in rows.values()}
    return [*rows.values(), *(_row(name, source) for name, source in sources.items() if name not in used)]


def _row(name: str, source: PluginSource) -> Row:
    return {
        "name": name,
        "plugin": source.name,
        "distribution": source.distribution,
        "version": source.version,
        "summary": source.summary,
        "status": source.status,
        "reason": source.reason,
        "remedy": source.remedy,
        "position": [],
        "hooks": [],
        "location": source.location,
    }


def _running(config: Path | None) -> list[Row]:
    """What the workers say of their instances; of several, one where it is not well."""
    try:
        replies = control.request(config, "status") if config else {}
    except control.NoHostError:
        return []
    except ControlError as error:
        click.echo(f"Warning: {error}", err=True)
        return []
    rows = [row for reply in replies.values() for row in reply["plugins"]]
    return list({row["name"]: row for row in sorted(rows, key=lambda row: row["status"] != "active")}.values())


@plugins.command("list")
@config_option
@json_option
def list_(given: str | None, *, as_json: bool) -> None:
    """List what is installed and configured, and how it does. Imports no plugin."""
    rows = survey(find_config(given))
    if as_json:
        print_json(rows)
        return
    lines = [
        (row["name"], row["status"], row["version"] or "-", ", ".join(row["position"]) or "-", row["summary"])
        for row in rows
    ]
    print_table(("NAME", "STATUS", "VERSION", "POSITION", "SUMMARY"), lines)
    for row in rows:
        if row["status"] in ("failed", "incompatible"):
            click.echo(f"\n{row['name']}: {row['reason']}\n  {row['remedy']}".rstrip())


def _source(config: Path | None, name: str) -> PluginSource:
    """What an instance, or else the installed plugin of that name, comes from."""
    table = plugin_tables(read_document(config)).get(name, {}) if config else {}
    return find_source(table.get("plugin") or name, discover(), config.parent if config else Path(), instance=name)


@plugins.command()
@config_option
@json_option
@click.argument("name", shell_complete=complete_name)
def show(given: str | None, name: str, *, as_json: bool) -> None:
    """Show everything about one plugin or instance. Imports it."""
    config = find_config(given)
    source = _source(config, name)
    kind = load_class(source, instance=name)
    from plughost._documented import field_docs  # noqa: PLC0415 - imports pydantic
    from plughost.hookspecs import hook_names  # noqa: PLC0415 - imports pluggy

    row = next((row for row in survey(config) if row["name"] == name), _row(name, source))
    row["hooks"] = [hook for hook in hook_names() if hasattr(kind, hook)]
    if as_json:
        print_json({**row, "config_schema": kind.config_type.model_json_schema()})
        return
    for key, value in row.items():
        if value:
            click.echo(f"{key:13} {', '.join(value) if isinstance(value, list) else value}")
    docs = field_docs(kind.config_type)
    rows = [(key, _default(field), docs.get(key, "")) for key, field in kind.config_type.model_fields.items()]
    if rows:
        click.echo()
        print_table(("CONFIG KEY", "DEFAULT", "DESCRIPTION"), rows)


def _default(field: FieldInfo) -> str:
    """As JSON, which for all but tables is TOML too."""
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    return "" if value is None else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset | set) else str(value)


@plugins.command()
@config_option
@json_option
@click.argument("name", required=False, shell_complete=complete_name)
@click.pass_context
def check(ctx: click.Context, given: str | None, name: str | None, *, as_json: bool) -> None:
    """Check all installed plugins, or one.

    Import, hooks, config model, name and the host versions that they accept. Exit code 1 on faults.
    """
    sources = {name: _source(find_config(given), name)} if name is not None else discover()
    from plughost._cli.checks import faults_of_plugin  # noqa: PLC0415 - imports plugins

    results = {key: faults_of_plugin(source) for key, source in sources.items()}
    if as_json:
        print_json([{"name": key, "ok": not faults, "faults": faults} for key, faults in results.items()])
    else:
        for key, faults in results.items():
            click.echo("\n  - ".join([f"{key}: {'faulty' if faults else 'ok'}", *faults]))
    ctx.exit(1 if any(results.values()) else 0)


@plugins.command()
@config_option
@click.option("--check", "checking", is_flag=True, help="Write nothing; exit code 1 if the file is not up to date.")
@click.pass_context
def lock(ctx: click.Context, given: str | None, *, checking: bool) -> None:
    """Write plughost.lock, for [host] locked = true.

    It has distribution, version and hash of each enabled plugin.
    """
    from plughost import _edit, _lock  # noqa: PLC0415 - the first imports tomlkit

    config = need_config(given)
    document, sources = read_document(config), discover()
    tables = plugin_tables(document)
    kinds = {name: str(table.get("plugin") or name) for name, table in tables.items()}
    if "upstream" not in kinds.values() and _has_upstreams(document):
        kinds["upstream"], tables["upstream"] = "upstream", {}  # the host adds it
    enabled = {
        name: find_source(kind, sources, config.parent, instance=name)
        for name, kind in kinds.items()
        if tables[name].get("enabled") is not False
    }
    wanted = _lock.Lock({name: _lock.pin(source) for name, source in enabled.items()})
    path = config.parent / _lock.NAME
    try:
        before = _lock.Lock.read(path).pins
    except ConfigError:  # there is none, or nothing to keep of it
        before = {}
    changed = [name for name in sorted(before.keys() | wanted.pins) if before.get(name) != wanted.pins.get(name)]
    for name in changed:
        click.echo(f"{name}: {before.get(name) or 'not locked'} -> {wanted.pins.get(name) or 'not enabled'}")
    if not checking:
        path.touch()
        _edit.replace_file(path, str(wanted).encode())
        click.echo(f"wrote {path}: {counted(wanted.pins, 'plugin')}, {len(changed)} changed")
    ctx.exit(1 if checking and changed else 0)


def _has_upstreams(document: dict[str, Any]) -> bool:
    """What `HostConfig.instances` asks, of the tables as written: who reviews code has no secrets to fill in."""
    providers = document.get("providers")
    tables = providers.values() if isinstance(providers, dict) else ()
    return any(isinstance(table, dict) and "python" not in table for table in tables)


# ---------------------------------------------------------------------------------------------------------------------
# Switching
# ---------------------------------------------------------------------------------------------------------------------


@plugins.command()
@config_option
@json_option
@click.argument("name", shell_complete=complete_name)
def enable(given: str | None, name: str, *, as_json: bool) -> None:
    """Enable an instance in the config file, and on the running host."""
    _switch(need_config(given), name, enabled=True, as_json=as_json)


@plugins.command()
@config_option
@json_option
@click.argument("name", shell_complete=complete_name)
def disable(given: str | None, name: str, *, as_json: bool) -> None:
    """Disable an instance in the config file, and on the running host."""
    _switch(need_config(given), name, enabled=False, as_json=as_json)


def _switch(path: Path, name: str, *, enabled: bool, as_json: bool) -> None:
    """Edit the file and ask the host to reload; if it refuses, the file is as before, byte for byte.

    A running host validates: it has the environment that the file refers to. Without one, this process does.
    """
    from plughost import _edit  # noqa: PLC0415 - imports tomlkit

    source = _source(path, name) if enabled else None
    before = path.read_bytes()
    text = _edit.switch(before.decode(), path, name, enabled=enabled)
    replies: dict[int, Any] = {}
    try:
        control.request(path, "ping")
    except control.NoHostError:
        _validate(text, path, name, source)
        _edit.replace_file(path, text.encode())
    else:
        _edit.replace_file(path, text.encode())
        try:
            replies = control.request(path, "reload", wait=None)
        except BaseException:
            _edit.replace_file(path, before)
            with suppress(ControlError):  # workers that had taken it go back
                control.request(path, "reload")
            raise
    done = "enabled" if enabled else "disabled"
    if as_json:
        print_json(
            {"name": name, "status": done, "workers": [{"worker": pid, **reply} for pid, reply in replies.items()]}
        )
        return
    if not replies:
        click.echo(f"{done} {name} in {path}; no host is running with it")
    for pid, reply in replies.items():
        who = f"worker {pid}: " if len(replies) > 1 else ""
        lines = [_told(change) for change in reply["changed"]] or [f"{done} {name}; the host had it so already"]
        click.echo("\n".join(who + line for line in lines))


def _validate(text: str, path: Path, name: str, source: PluginSource | None) -> None:
    from plughost import _config  # noqa: PLC0415 - imports pydantic

    config = _config.parse_config(parse_document(text, path), path)
    if source is not None:
        _config.parse_plugin_config(load_class(source, instance=name), config.plugins[name], name)


def _told(change: dict[str, Any]) -> str:
    verb = {"registered": "enabled", "unregistered": "disabled"}.get(change["action"], change["action"])
    calls = change["drained"]
    drained = f", {calls} call{'s' * (calls != 1)} drained" if change["action"] in ("unregistered", "replaced") else ""
    return f"{verb} {change['name']}{drained} in {change['ms']:.0f} ms"
