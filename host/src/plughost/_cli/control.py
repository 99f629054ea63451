"""`plughost ctl` and `plughost chain`: ask a running host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from plughost._cli.options import complete_name, config_option, json_option, need_config, print_json, print_table
from plughost._control import NoHostError, request
from plughost._errors import PluginError, did_you_mean


@click.command()
@config_option
@json_option
@click.argument("instance", shell_complete=complete_name)
@click.argument("operation", required=False)
@click.argument("parameters", metavar="[KEY=VALUE]…", nargs=-1)
def ctl(given: str | None, instance: str, operation: str | None, parameters: tuple[str, ...], *, as_json: bool) -> None:
    """Run an operation of a plugin on the running host.

    Without OPERATION, list those of the instance. A value is JSON where it can be, and else text. JSON output has one
    entry per worker process.
    """
    path = need_config(given)
    known: dict[str, list[dict[str, Any]]] = next(iter(request(path, "operations").values()))
    if instance not in known:
        raise PluginError(
            instance, f"is not running{did_you_mean(instance, known)}", remedy="See: plughost plugins list"
        )
    if operation is None:
        if as_json:
            print_json(known[instance])
        else:
            rows = [(item["name"], _usage(item["parameters"]), item["summary"]) for item in known[instance]]
            print_table(("OPERATION", "PARAMETERS", "SUMMARY"), rows)
        return
    schema: dict[str, Any] = next((item["parameters"] for item in known[instance] if item["name"] == operation), {})
    arguments = dict(_parse(text, schema) for text in parameters)
    results = request(path, "operate", wait=None, instance=instance, operation=operation, parameters=arguments)
    if as_json:
        print_json([{"worker": pid, "result": result} for pid, result in results.items()])
        return
    for pid, result in results.items():
        text = result if isinstance(result, str) else json.dumps(result, indent=2)
        click.echo(f"worker {pid}: {text}" if len(results) > 1 else text)


def _usage(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    return " ".join(f"{key}=…" if key in required else f"[{key}=…]" for key in schema.get("properties", {}))


def _parse(text: str, schema: dict[str, Any]) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text!r} is not KEY=VALUE")
    if schema.get("properties", {}).get(key, {}).get("type") == "string":
        return key, value
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


@click.command()
@config_option
@json_option
@click.option("--method", default="tools/call", show_default=True, help="Method of the request.")
@click.argument("target", required=False)
def chain(given: str | None, method: str, target: str | None, *, as_json: bool) -> None:
    """Show what a call walks through, outside in.

    TARGET is a tool, a prompt or a resource URI. Without a running host, the chain is composed from the config.
    """
    path = need_config(given)
    try:
        layers = next(iter(request(path, "chain", target=target, method=method).values()))
    except NoHostError:
        click.echo("No host is running: composed from the config, with every match shown and none applied.", err=True)
        layers = _compose(path, method)
    if as_json:
        print_json(layers)
        return
    rows = [(item["phase"], item["instance"], item["plugin"], _match(item["match"])) for item in layers]
    print_table(("PHASE", "INSTANCE", "PLUGIN", "MATCH"), rows)


def _match(match: dict[str, str] | None) -> str:
    return " ".join(f"{key}={value}" for key, value in (match or {}).items())


def _compose(path: Path, method: str) -> list[dict[str, Any]]:
    from plughost import _instance, _pipeline  # noqa: PLC0415 - imports mcp
    from plughost._cli.loading import load_instances  # noqa: PLC0415 - imports pydantic
    from plughost._config import load_config  # noqa: PLC0415 - imports pydantic

    layers = []
    for loaded in load_instances(load_config(path)).values():
        plugin = loaded.kind(loaded.settings, name=loaded.name, version=loaded.source.version)
        instance = _instance.Instance(plugin, loaded.source.name, loaded.table, loaded.source.origin)
        instance.check()
        layers += instance.layers(lambda _: None)
    return [layer.describe() for layer in _pipeline.order(layers) if layer.takes(method)]
