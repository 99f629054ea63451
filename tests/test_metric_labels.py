"""The labels of metrics are called alike in all plugins, so that one query can join them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDS = {"add", "set", "record", "Observation"}


def labels(source: Path) -> Iterator[tuple[str, str]]:
    """The keys of attributes that are written where something is recorded, and where that is."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[-1], ast.Dict):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in RECORDS:
            for key in node.args[-1].keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, f"{source.relative_to(ROOT)}:{node.lineno}"


def test_labels_have_a_namespace() -> None:
    """A label is `plughost.plugin`, `plughost.provider`, `plughost.<plugin>.<what>`, or OpenTelemetry's own.

    A bare `instance` would even be Prometheus's, which renames it.
    """
    found = [label for source in ROOT.glob("plugins/*/src/**/*.py") for label in labels(source)]
    assert {name for name, _ in found} >= {"plughost.plugin", "plughost.provider"}
    assert [f"{where}: {name}" for name, where in found if not name.startswith(("plughost.", "error."))] == []
