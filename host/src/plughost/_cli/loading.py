"""Every instance of a config loaded and validated, with every fault of them all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from plughost._config import UPSTREAM, HostConfig, PluginTable, ProviderTable, faults_of, parse_plugin_config
from plughost._conformance import faults_of_class
from plughost._discovery import PluginSource, discover, load_class, resolve
from plughost._errors import ConfigError, Fault, PluginError
from plughost._plugin import MCPPlugin, PluginConfig


@dataclass(frozen=True, slots=True)
class Loaded:
    """An enabled instance: its class is imported, its config valid."""

    name: str
    table: PluginTable
    source: PluginSource
    kind: type[MCPPlugin[Any]]
    settings: PluginConfig


def load_instances(config: HostConfig) -> dict[str, Loaded]:
    """Import and validate what the config enables; nothing is registered.

    Raises:
        ConfigError: Names every fault, those of `command` and `url` providers too.
    """
    faults: list[Fault] = []
    sources = discover()
    found = {}
    for name, table in config.instances.items():
        if table.enabled:
            try:
                source = resolve(name, table, sources, config.folder)
                kind = load_class(source, instance=name)
                faults += [Fault(f"plugins.{name}", fault) for fault in faults_of_class(kind)]
                found[name] = Loaded(name, table, source, kind, parse_plugin_config(kind, table, name))
            except ConfigError as error:
                faults += error.faults
            except PluginError as error:
                faults.append(Fault(f"plugins.{name}", f"{error.problem}. {error.remedy}".removesuffix(". ")))
    faults += _provider_faults(config, found)
    if faults:
        raise ConfigError(faults, source=str(config.source or "configuration"))
    return found


def _provider_faults(config: HostConfig, found: dict[str, Loaded]) -> Iterator[Fault]:
    upstreams = {name: table for name, table in config.instances.items() if (table.plugin or name) == UPSTREAM}
    serving = next((found[name] for name in upstreams if name in found), None)
    model = serving.kind.provider_config if serving else None
    for name, table in config.providers.items():
        if table.python is not None:
            continue
        if not any(upstream.enabled for upstream in upstreams.values()):
            yield Fault(f"providers.{name}", f"needs the plugin {UPSTREAM!r}, which is disabled; enable it")
        if model is not None:
            try:
                model.model_validate(table.model_extra or {})
            except ValidationError as error:
                yield from faults_of(error, model, f"providers.{name}", ProviderTable.model_fields)
