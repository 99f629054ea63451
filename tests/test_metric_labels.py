"""The labels of metrics are called alike in all plugins, so that one query can join them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDS = {"add", "set", "record"}


def labels(source: Path) -> Iterator[tuple[str, str]]:
    """The keys of attributes that are written where something is recorded or read, and where that is."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        attributes = _attributes(node, readings=source.name == "_metrics.py")
        for key in attributes.keys if isinstance(attributes, ast.Dict) else ():
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, f"{source.relative_to(ROOT)}:{key.lineno}"


def _attributes(node: ast.AST, *, readings: bool) -> ast.expr | None:
    if readings and isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
        return node.value.elts[-1]
    if isinstance(node, ast.Call) and node.args:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return node.args[-1] if name in RECORDS else None
    return None


def test_labels_have_a_namespace() -> None:
    """A label is `plughost.plugin`, `plughost.provider`, `plughost.<plugin>.<what>`, or OpenTelemetry's own.

    A bare `instance` would even be Prometheus's, which renames it.
    """
    found = [label for source in ROOT.glob("plugins/*/src/**/*.py") for label in labels(source)]
    assert {name for name, _ in found} >= {"plughost.plugin", "plughost.provider", "plughost.cache.level"}
    assert [f"{where}: {name}" for name, where in found if not name.startswith(("plughost.", "error."))] == []
