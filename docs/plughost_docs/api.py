"""The public Python API: everything in `plughost.__all__`, grouped by the module it stands in, and public modules."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from importlib import import_module
from itertools import pairwise
from types import ModuleType

import plughost

from plughost_docs.markdown import definition, docstring, signature, table

GROUPS = {
    "_host": "The host",
    "_plugin": "Plugins",
    "_call": "Calls",
    "_provider": "Providers",
    "_inprocess": "Providers in process",
    "_config": "Configuration",
    "_state_url": "Where plugins keep state",
    "_errors": "Errors for operators and authors",
    "_refusal": "Errors for callers",
    "_visible": "What callers see",
    "_outcome": "Outcomes",
    "_events": "Events",
    "_shared": "Shared things",
    "_meter": "Metrics",
    "_writer": "Logs",
}
MODULES = ("commands", "spelling")
"""Public modules of their own; `hookspecs` has a page."""


def section() -> str:
    """One heading per group, one per name."""
    homes = plughost._HOME  # noqa: SLF001 - the one table of where each public name stands
    parts = []
    for home, title in GROUPS.items():
        module = import_module(f"plughost.{home}")
        parts += [f"## {title}\n", *(_entry(name, module) for name in homes[home].split())]
    for name in MODULES:
        module = import_module(f"plughost.{name}")
        parts += [f"## The module `plughost.{name}`\n", docstring(module) + "\n"]
        parts += [_entry(public, module) for public in module.__all__]
    return "\n".join(parts)


def _entry(name: str, module: ModuleType) -> str:
    value = getattr(module, name)
    if inspect.isclass(value):
        members = [(f"`{shown}`", text) for shown, text in _members(value)]
        listed = table(("member", "what it does"), members) if members else ""
        parts = [_code(constructor(value)), docstring(value), listed]
    elif inspect.isfunction(value):
        parts = [_code(signature(value)), docstring(value)]
    else:
        parts = [*_assigned(module, name)]
    return f"### `{name}`\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _code(text: str) -> str:
    return f"```text\n{text}\n```" if text else ""


def constructor(value: type) -> str:
    """How an object of the class is made: its parameters, or the members of an enumeration. Empty for the rest."""
    if issubclass(value, Enum):
        return "\n".join(f"{value.__name__}.{name}" for name in value.__members__)
    if "__init__" in vars(value) and not is_dataclass(value):
        made = signature(vars(value)["__init__"]).removesuffix(" -> None")
        return made.replace("__init__", value.__name__, 1) if not getattr(value, "_is_protocol", False) else ""
    if not is_dataclass(value):
        return ""
    node = definition(value)
    assert isinstance(node, ast.ClassDef)
    fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
    return f"{value.__name__}({', '.join(_field(field) for field in fields)})"


def _field(field: ast.AnnAssign) -> str:
    return "*" if ast.unparse(field.annotation) == "KW_ONLY" else ast.unparse(field)


def _members(value: type) -> Iterator[tuple[str, str]]:
    for name, member in vars(value).items():
        text = docstring(member).split("\n\n")[0]
        if name.startswith(("_", "model_")) or not text:
            continue
        if inspect.isfunction(member):
            yield signature(member), text
        elif isinstance(member, property):
            yield name, text


def _assigned(module: ModuleType, name: str) -> Iterator[str]:
    """An assignment, and the string under it, where a type alias or constant keeps its description."""
    for statement, after in pairwise(ast.parse(inspect.getsource(module)).body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            yield _code(ast.unparse(statement))
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                yield inspect.cleandoc(str(after.value.value))
