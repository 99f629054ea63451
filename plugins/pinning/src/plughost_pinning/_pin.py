"""A pin: what was approved of one entry, short enough to be reviewed and complete enough to be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from plughost_pinning._canonical import canonical, digest_of_text, joined

EXCERPT = 300
"""Characters of a description that are shown for review."""
PROPERTIES = 100
"""Properties of a schema that are shown for review."""
SHORT = 32
"""Digits of the digest of one field: they say where a change is, `sha256` says that there is one.

A field whose digest was cut shorter, or changed by hand, counts as changed.
"""
FIELDS = frozenset(
    {
        "name",
        "title",
        "description",
        "inputSchema",
        "outputSchema",
        "annotations",
        "arguments",
        "execution",
        "icons",
        "instructions",
        "mimeType",
        "uri",
        "uriTemplate",
        "_meta",
    }
)
"""Fields that the specification names. Others may be called anything."""


_MOMENT = re.compile(r"[0-9TZtz:.+ -]{1,40}")


class Key(NamedTuple):
    """What is pinned, of which provider: tools, prompts, resources, templates or instructions."""

    kind: str
    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"


@dataclass(frozen=True, slots=True)
class Pin:
    """An entry as it was approved. Only `sha256` decides; the rest is for readers."""

    sha256: str
    description: str = ""
    inputs: tuple[str, ...] = ()
    fields: Mapping[str, str] | None = None


def pin(kind: str, definition: Mapping[str, Any]) -> Pin:
    """The pin of an entry, over all that the provider lists of it (P1).

    Raises:
        ValueError: It has no canonical text, so that nothing can be said of it.
    """
    whole = _without_content(definition) if kind == "resources" else definition
    texts = {name: canonical(value, 1) for name, value in whole.items()}
    words = str(definition.get("description") or definition.get("instructions") or definition.get("title") or "")
    return Pin(
        digest_of_text(joined(texts)),
        words[:EXCERPT] + "…" * (len(words) > EXCERPT),
        tuple(_inputs(definition))[:PROPERTIES],
        {name: digest_of_text(text)[:SHORT] for name, text in sorted(texts.items())},
    )


def _without_content(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    """A resource without what changes with its content: size and time. What only stands in their place is pinned."""
    whole = dict(resource)
    if type(whole.get("size")) is int:
        del whole["size"]
    annotations = whole.get("annotations")
    if isinstance(annotations, Mapping):
        modified = annotations.get("lastModified")
        if isinstance(modified, str) and _MOMENT.fullmatch(modified):
            whole["annotations"] = {name: value for name, value in annotations.items() if name != "lastModified"}
    return whole


def changed_fields(before: Pin, now: Pin) -> list[str]:
    """Which fields differ between two pins of one entry, without a word of what stands in them."""
    old, new = before.fields or {}, now.fields or {}
    changed = {name: "changed" for name in new if name in old and new[name] != old[name]}
    changed |= {name: "added" for name in new if name not in old}
    changed |= {name: "removed" for name in old if name not in new}
    found = [f"{name if name in FIELDS else 'another field'} {how}" for name, how in sorted(changed.items())]
    return list(dict.fromkeys(found)) or ["the definition changed"]


def changed_arguments(before: Pin, now: Pin) -> tuple[str, ...]:
    """The arguments that came (`+`) and went (`-`)."""
    came = [f"+{item}" for item in now.inputs if item not in before.inputs]
    return (*came, *(f"-{item}" for item in before.inputs if item not in now.inputs))


def _inputs(definition: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of a tool or a prompt: `text: string`, optional ones with a question mark."""
    arguments = definition.get("arguments")
    for argument in arguments if isinstance(arguments, list | tuple) else ():
        if isinstance(argument, Mapping):
            yield f"{_shown(argument.get('name'))}{'' if argument.get('required') is True else '?'}"
    schema = definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    required = schema.get("required") if isinstance(schema, Mapping) else None
    for name, value in properties.items() if isinstance(properties, Mapping) else ():
        kind = value.get("type") if isinstance(value, Mapping) else None
        needed = isinstance(required, list | tuple) and name in required
        yield f"{_shown(name)}{'' if needed else '?'}{f': {_shown(kind)}' if isinstance(kind, str) else ''}"


def _shown(text: object) -> str:
    return str(text)[:60]
