"""What `plughost plugins check` looks at in one plugin."""

from __future__ import annotations

from inspect import iscoroutinefunction

import pluggy

from plughost._config import NAME, PluginTable
from plughost._discovery import PluginSource, load_class
from plughost._errors import PluginError, did_you_mean
from plughost.hookspecs import hook_names, new_plugin_manager


def faults_of(source: PluginSource) -> list[str]:
    """Every fault of one plugin, each with its remedy. Imports it, and makes no instance."""
    faults = []
    if source.distribution and not NAME.match(source.name):
        faults.append(f"entry point name {source.name!r} cannot be a table; use letters, digits, '-' and '_'")
    try:
        kind = load_class(source)
    except PluginError as error:
        return [*faults, str(error)]
    known = hook_names()
    for name in dir(kind):
        value = getattr(kind, name)
        marked = hasattr(value, "plughost_impl")
        if not (marked or name.startswith("plughost_")):
            continue
        if name not in known:
            faults.append(f"{name} is no hook{did_you_mean(name, known)}; hooks are: {', '.join(known)}")
        elif not marked:
            faults.append(f"{name} is not marked as a hook; put @hookimpl above it")
        elif iscoroutinefunction(value):
            faults.append(f"{name} is async; hooks are called when the host composes, so write it with a plain def")
    manager = new_plugin_manager()
    try:
        manager.register(kind, source.name)
    except pluggy.PluginValidationError as error:
        faults.append(f"{' '.join(str(error).split())}; compare it with plughost.hookspecs")
    taken = PluginTable.model_fields.keys() & kind.config_type.model_fields.keys()
    faults += [f"config key {key!r} is the host's own in every plugin table; give it another name" for key in taken]
    try:
        kind.config_type.model_json_schema()
    except Exception as error:  # noqa: BLE001 - whatever a third party's model raises is the fault
        faults.append(f"the config has no JSON Schema: {type(error).__name__}: {error}")
    return faults
