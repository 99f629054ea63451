"""Models whose fields are described by the docstrings below them."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from textwrap import dedent
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Documented(BaseModel):
    """Frozen, refuses unknown keys; its JSON Schema has the docstrings of its fields as their descriptions.

    They are read from the source when a schema is asked for, not when the class is made, as pydantic's
    `use_attribute_docstrings` has it: that costs about two milliseconds a model at each start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> dict[str, Any]:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in field_docs(cls).items():
            key = cls.model_fields[name].alias or name
            if key in properties:
                properties[key].setdefault("description", text)
        return schema


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field → its description, or the docstring below it, of those that have one."""
    docs = {name: field.description for name, field in model.model_fields.items() if field.description}
    for base in model.__mro__:
        if issubclass(base, BaseModel) and base.__module__ != BaseModel.__module__:
            docs = {name: text for name, text in _docs_in(base).items() if name in model.model_fields} | docs
    return docs


def _docs_in(model: type[BaseModel]) -> dict[str, str]:
    try:
        source = dedent(inspect.getsource(model))
    except (OSError, TypeError):  # made without a source, in an interpreter's prompt or by exec()
        return {}
    definition = ast.parse(source).body[0]
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
