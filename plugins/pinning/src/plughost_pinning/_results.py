"""What in a result is meant for the model as an order. Results quote the world, so less counts than in definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plughost_pinning._scan import scan_text

MOST = 64 * 1024
"""Characters of a result that are looked at."""
EVERYDAY = frozenset({"control characters", "invisible characters", "bidirectional characters"})
"""What pages, terminals and documents are full of."""
_STEPS = 2000
"""Values of a structured result that are looked at."""


def suspicious(result: Mapping[str, Any]) -> list[str]:
    """What hardly any honest text says: each kind once."""
    found: dict[str, None] = {}
    left = MOST
    for text in _texts(result):
        for finding in scan_text(text[:left]):
            if finding.severity == "high" and finding.what not in EVERYDAY:
                found[finding.what] = None
        left -= len(text)
        if left <= 0:
            break
    return list(found)


def _texts(result: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a tool's, a prompt's or a resource's result; neither images nor other data."""
    for part in _parts(result):
        for holder in (part, part.get("resource")):
            text = holder.get("text") if isinstance(holder, Mapping) else None
            if isinstance(text, str):
                yield text
    todo = [result.get("structuredContent")]
    for _ in range(_STEPS):
        if not todo:
            return
        item = todo.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            todo += item.values()
        elif isinstance(item, list):
            todo += item


def _parts(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("content", "contents", "messages"):
        parts = result.get(name)
        for part in parts if isinstance(parts, list | tuple) else ():
            content = part.get("content") if name == "messages" and isinstance(part, Mapping) else part
            for item in content if isinstance(content, list) else (content,):
                if isinstance(item, Mapping):
                    yield item
