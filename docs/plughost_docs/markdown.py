"""Markdown from code: docstrings, signatures and tables."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

_RAISES = re.compile(r"^Raises:\n((?:    .*\n?)+)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+): ", re.MULTILINE)


def docstring(thing: object) -> str:
    """The docstring as Markdown, or an empty string if it has none of its own."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    return _RAISES.sub(lambda match: "Raises:\n\n" + _ENTRY.sub(r"- `\1`: ", match[1]), text)


def signature(function: Callable[..., Any]) -> str:
    """`name(parameters) -> returned`, as the source writes it, without `self`."""
    node = definition(function)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    parameters = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{'async ' * isinstance(node, ast.AsyncFunctionDef)}{node.name}({parameters}){returned}"


def definition(thing: Callable[..., Any] | type) -> ast.stmt:
    """The `def` or `class` statement that made a function or class."""
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; cells may hold inline Markdown."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def literalinclude(path: str, language: str = "python") -> str:
    """A directive that shows a file of the site's source folder."""
    return f"```{{literalinclude}} /{path}\n:language: {language}\n```\n"
