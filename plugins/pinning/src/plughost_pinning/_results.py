"""What in a result is meant for the model as an order. Results quote the world, so less counts than in definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plughost_pinning._scan import hidden_characters, instructions

MOST = 32 * 1024
"""Characters of a result that are looked at."""
EVERYDAY = frozenset({"control characters", "invisible characters", "bidirectional characters"})
"""What pages, terminals and documents are full of."""
_LISTS = ("content", "contents", "messages")
_STRUCTURES = ("structuredContent", "inputRequests")
_LINKS = ("title", "description", "name")
_STEPS = 2000
"""Values of a structured result that are looked at."""


def suspicious(result: Mapping[str, Any]) -> list[str]:
    """What hardly any honest text says: each kind once."""
    found: dict[str, None] = {}
    left = MOST
    for text in _texts(result):
        part = text if len(text) <= left else text[:left]
        found.update((what, None) for severity, what in instructions(part) if severity == "high")
        if not part.isascii() and (kind := hidden_characters(part)) is not None and kind not in EVERYDAY:
            found[kind] = None
        left -= len(text)
        if left <= 0:
            break
    return list(found)


def _texts(result: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a tool's, a prompt's or a resource's result; neither images nor other data."""
    for name in _LISTS:
        parts = result.get(name)
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                yield from _of_part(part)
    for name in _STRUCTURES:
        if (structure := result.get(name)) is not None:
            yield from _of_structure(structure)


def _of_part(part: dict[str, Any]) -> Iterator[str]:
    """The texts of one content block, of one of a resource, or of a message around some."""
    yield from _of_block(part)
    content = part.get("content")
    for inner in content if isinstance(content, list) else (content,):
        if isinstance(inner, dict):
            yield from _of_block(inner)


def _of_block(block: dict[str, Any]) -> Iterator[str]:
    if isinstance(text := block.get("text"), str):
        yield text
    if isinstance(resource := block.get("resource"), dict) and isinstance(text := resource.get("text"), str):
        yield text
    if block.get("type") == "resource_link":
        for name in _LINKS:
            if isinstance(text := block.get(name), str):
                yield text


def _of_structure(value: Any) -> Iterator[str]:
    todo = [value]
    for _ in range(_STEPS):
        if not todo:
            return
        item = todo.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, list):
            todo += item
