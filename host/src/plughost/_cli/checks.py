"""What `plughost plugins check` looks at in one plugin."""

from __future__ import annotations

from plughost._config import NAME, PluginTable
from plughost._conformance import faults_of_class
from plughost._discovery import PluginSource, load_class
from plughost._errors import PluginError


def faults_of_plugin(source: PluginSource) -> list[str]:
    """Every fault of one plugin, each with its remedy. Imports it, and makes no instance."""
    faults = []
    if source.distribution and not NAME.match(source.name):
        faults.append(f"entry point name {source.name!r} cannot be a table; use letters, digits, '-' and '_'")
    try:
        kind = load_class(source)
    except PluginError as error:
        return [*faults, str(error)]
    faults += faults_of_class(kind)
    taken = PluginTable.model_fields.keys() & kind.config_type.model_fields.keys()
    faults += [f"config key {key!r} is the host's own in every plugin table; give it another name" for key in taken]
    try:
        kind.config_type.model_json_schema()
    except Exception as error:  # noqa: BLE001 - whatever a third party's model raises is the fault
        faults.append(f"the config has no JSON Schema: {type(error).__name__}: {error}")
    return faults
