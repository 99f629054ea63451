"""The configuration reference, from the models of the host and of the plugins that ship."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from plughost import Duration, GuardConfig, HostSettings, Match, MCPPlugin, PluginTable, ProviderTable, Size
from plughost._documented import field_docs
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from plughost_docs.markdown import docstring, table

TEMPLATE = "plughost-plugin-template"
_WORDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "integer",
    float: "number",
    SecretStr: "secret",
    type(None): "absent",
}
_UNITS = {get_args(Duration)[1:]: "duration", get_args(Size)[1:]: "size"}


def shipped_plugins() -> list[EntryPoint]:
    """The entry points of the plugins of this workspace, by name; the template is none."""
    found = (entry for entry in entry_points(group="plughost.plugins") if entry.dist and entry.dist.name != TEMPLATE)
    return sorted(found, key=lambda entry: entry.name)


def section() -> str:
    """The tables of the file, then one per plugin."""
    return "\n".join([*_host_tables(), *(part for entry in shipped_plugins() for part in _plugin_tables(entry))])


def _host_tables() -> Iterator[str]:
    for head, model in (
        ("`[host]`", HostSettings),
        ("`[providers.NAME]`", ProviderTable),
        ("`[plugins.NAME]`", PluginTable),
        ("`match`", Match),
        ("Plugins that can refuse", GuardConfig),
    ):
        yield f"## {head}\n\n{docstring(model)}\n\n{model_table(model)}"


def _plugin_tables(entry: EntryPoint) -> Iterator[str]:
    plugin: type[MCPPlugin[Any]] = entry.load()
    distribution = entry.dist
    assert distribution is not None
    yield f"## Plugin `{entry.name}`\n\n{distribution.metadata['Summary']} (`pip install {distribution.name}`)\n"
    if plugin.config_type.model_fields:
        yield f"Keys of its `[plugins.NAME]` tables:\n\n{model_table(plugin.config_type)}"
    else:
        yield "It has no keys of its own.\n"
    if plugin.provider_config is not None:
        yield f"Keys that it adds to `[providers.NAME]`:\n\n{model_table(plugin.provider_config)}"


def model_table(model: type[BaseModel]) -> str:
    """A table of a model's keys: type, default, meaning."""
    docs = field_docs(model)
    shown = ((name, field) for name, field in model.model_fields.items() if not field.exclude)
    return table(
        ("key", "value", "default", "meaning"),
        ((f"`{field.alias or name}`", _type_of(field), _default(field), docs.get(name, "")) for name, field in shown),
    )


def _type_of(field: FieldInfo) -> str:
    if unit := _unit(field.metadata):
        return unit
    return spell(field.annotation)


def _unit(metadata: Iterable[Any]) -> str | None:
    given = [item for item in metadata if not isinstance(item, FieldInfo)]
    for (parser, *_), word in _UNITS.items():
        if parser in given:
            return word
    return None


def spell(annotation: Any) -> str:
    """What a person writes for a value of this type."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _unit(args[1:]) or spell(args[0])
    if origin in {Union, types.UnionType}:
        return " or ".join(spell(arg) for arg in args if arg is not type(None))
    if origin is Literal:
        return " or ".join(f'`"{arg}"`' if isinstance(arg, str) else f"`{arg}`" for arg in args)
    if origin in {tuple, list, set, frozenset}:
        return f"list of {spell(args[0])}"
    if origin is dict:
        return f"table of {spell(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f'`"{member.value}"`' for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"table `{annotation.__name__}`"
    return _WORDS.get(annotation, f"`{getattr(annotation, '__name__', annotation)}`")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or (isinstance(default, tuple | dict | frozenset) and not default):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple | list | frozenset):
        return "`[" + ", ".join(f'"{item}"' for item in default) + "]`"
    if isinstance(default, str):
        return f'`"{default}"`'
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default}`"
