"""One JSON Schema for the config file, from the models of everything installed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from plughost._config import UPSTREAM, HostConfig, PluginTable, ProviderTable
from plughost._discovery import discover, load_class
from plughost._errors import PluginError


def config_schema() -> tuple[dict[str, Any], list[str]]:
    """The schema, and what is wrong with the plugins that it leaves out."""
    kinds, problems = {}, []
    for name, source in discover().items():
        try:
            kinds[name] = load_class(source)
        except PluginError as error:
            problems.append(str(error))
    models: dict[str, type[BaseModel]] = {name: kind.config_type for name, kind in kinds.items()}
    upstream = kinds[UPSTREAM].provider_config if UPSTREAM in kinds else None
    every: set[type[BaseModel]] = {HostConfig, PluginTable, ProviderTable, *models.values()}
    every |= {upstream} if upstream else set()
    references, shared = models_json_schema([(model, "validation") for model in every])
    definitions = shared["$defs"]

    def definition(model: type[BaseModel]) -> dict[str, Any]:
        return definitions[references[model, "validation"]["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]

    def joined(base: type[BaseModel], own: type[BaseModel]) -> dict[str, Any]:
        left, right = definition(base), definition(own)
        properties = {**left["properties"], **right.get("properties", {})}
        return {**right, "properties": properties, "additionalProperties": False}

    tables = {name: joined(PluginTable, model) for name, model in models.items()}
    if upstream:
        definitions["provider"] = joined(ProviderTable, upstream)
    definitions |= {f"plugin.{name}": table for name, table in tables.items()}
    root = definition(HostConfig)
    named = [
        {
            "if": {"required": ["plugin"], "properties": {"plugin": {"const": name}}},
            "then": {"$ref": f"#/$defs/plugin.{name}"},
        }
        for name in tables
    ]
    root["properties"]["plugins"] |= {
        "properties": {name: {"$ref": f"#/$defs/plugin.{name}"} for name in tables},
        "additionalProperties": {"type": "object", "required": ["plugin"], "allOf": named},
    }
    if upstream:
        root["properties"]["providers"]["additionalProperties"] = {"$ref": "#/$defs/provider"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}, problems
