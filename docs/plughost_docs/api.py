"""The public Python API: everything in `plughost.__all__`, grouped by the module it stands in."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

import plughost

from plughost_docs.markdown import docstring, signature, table

GROUPS = {
    "_host": "The host",
    "_plugin": "Plugins",
    "_call": "Calls",
    "_provider": "Providers",
    "_inprocess": "Providers in process",
    "_config": "Configuration",
    "_errors": "Errors for operators and authors",
    "_refusal": "Errors for callers",
    "_outcome": "Outcomes",
    "_events": "Events",
    "_shared": "Shared things",
}


def section() -> str:
    """One heading per group, one per name."""
    homes = plughost._HOME  # noqa: SLF001 - the one table of where each public name stands
    parts = []
    for home, title in GROUPS.items():
        module = import_module(f"plughost.{home}")
        parts += [f"## {title}\n", *(_entry(name, module) for name in homes[home].split())]
    return "\n".join(parts)


def _entry(name: str, module: ModuleType) -> str:
    value = getattr(plughost, name)
    if inspect.isclass(value):
        methods = _members(value)
        shown = "" if issubclass(value, Enum) else f"`{_constructor(value)}`\n\n"
        listed = table(("member", "what it does"), methods) if methods else ""
        return f"### `{name}`\n\n{shown}{docstring(value)}\n\n{listed}"
    if inspect.isfunction(value):
        return f"### `{name}`\n\n`{signature(value)}`\n\n{docstring(value)}\n"
    return f"### `{name}`\n\n{_assigned_docstring(module, name)}\n"


def _constructor(value: type) -> str:
    if getattr(value, "_is_protocol", False):
        return f"class {value.__name__}(Protocol)"
    try:
        return signature(value)
    except ValueError:
        return value.__name__


def _members(value: type) -> list[tuple[str, str]]:
    return [(f"`{shown}`", text) for shown, text in _public_members(value)]


def _public_members(value: type) -> Iterator[tuple[str, str]]:
    for name, member in vars(value).items():
        if name.startswith(("_", "model_")):
            continue
        function: Any = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        text = docstring(function).split("\n\n")[0]
        if inspect.isfunction(function) and text:
            prefix = "async " if inspect.iscoroutinefunction(function) else ""
            yield prefix + signature(function), text
        elif isinstance(member, property) and text:
            yield name, text


def _assigned_docstring(module: ModuleType, name: str) -> str:
    """The string under an assignment, where a type alias or constant keeps its description."""
    for statement, after in pairwise(ast.parse(inspect.getsource(module)).body):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
        if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return inspect.cleandoc(str(after.value.value))
    return ""
