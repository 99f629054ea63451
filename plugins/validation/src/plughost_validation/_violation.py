"""Violations in words that a model can act on: where, and which rule. Never the value itself (G6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from plughost_validation._shape import pointer

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

MAX_WORDS = 300


class Violation(NamedTuple):
    """A rule that a value breaks."""

    pointer: str
    """Where, as a JSON pointer; empty for the whole."""
    rule: str
    """The keyword of the schema, or the name of a limit."""
    words: str
    """What must be: completes a sentence that begins with the pointer."""

    def __str__(self) -> str:
        return f"{self.pointer or '(root)'}: {self.words}"


_ARTICLES = {"array": "an array", "integer": "an integer", "object": "an object", "null": "null"}


def _type(names: Any) -> str:
    kinds = [_ARTICLES.get(name, f"a {name}") for name in names]
    return f"must be {' or '.join(kinds)}"


def _json(value: Any, most: int = 200) -> str | None:
    """A value of the schema, if it is short."""
    try:
        written = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a number that Python's JSON does not know
        written = str(value)
    return written if len(written) <= most else None


def _enum(options: Any) -> str:
    listed = _json(options)
    return f"must be one of {listed[1:-1]}" if listed else f"must be one of the {len(options)} values in the schema"


def _const(value: Any) -> str:
    written = _json(value)
    return f"must be {written}" if written else "must be the one value in the schema"


def _unexpected(names: Any) -> str:
    known = ", ".join(repr(pointer([name])[1:]) for name in names[:5])
    return f"must not have {known}{' and others' if len(names) > 5 else ''}"


_WORDS: Mapping[str, Any] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": lambda name: f"needs the property {name!r}",
    "additionalProperties": _unexpected,
    "unevaluatedProperties": _unexpected,
    "additionalItems": lambda most: f"must have at most {most} items",
    "unevaluatedItems": lambda _: "must not have more items than the schema knows",
    "falseSchema": lambda _: "must not be there",
    "minimum": lambda limit: f"must be at least {_json(limit)}",
    "maximum": lambda limit: f"must be at most {_json(limit)}",
    "exclusiveMinimum": lambda limit: f"must be more than {_json(limit)}",
    "exclusiveMaximum": lambda limit: f"must be less than {_json(limit)}",
    "multipleOf": lambda step: f"must be a multiple of {_json(step)}",
    "minLength": lambda limit: f"must be at least {limit} characters long",
    "maxLength": lambda limit: f"must be at most {limit} characters long",
    "minItems": lambda limit: f"must have at least {limit} items",
    "maxItems": lambda limit: f"must have at most {limit} items",
    "minProperties": lambda limit: f"must have at least {limit} properties",
    "maxProperties": lambda limit: f"must have at most {limit} properties",
    "uniqueItems": lambda _: "must not hold the same item twice",
    "contains": lambda _: "does not hold as many items as must match `contains`",
    "pattern": lambda pattern: f"must match the pattern {_json(pattern) or 'in the schema'}",
    "format": lambda name: f"must have the format {name!r}",
    "not": lambda _: "must not match what the schema excludes with `not`",
}


def explained(error: ValidationError) -> Violation:
    """A violation as the validator found it. Of several alternatives, the one that fits best."""
    kind = error.kind
    name = str(kind.name)
    where = pointer(error.instance_path)
    if name in ("anyOf", "oneOf"):
        return Violation(where, name, _cut(_alternatives(where, kind.value)))
    if name == "propertyNames":
        return Violation(where, name, _cut(f"has a property whose name {explained(kind.value).words}"))
    if name == "pattern" and not hasattr(kind, "pattern"):
        return Violation(where, name, "takes too long to be matched against its pattern; send less")
    words = _WORDS.get(name)
    return Violation(where, name, _cut(words(kind.value)) if words else f"does not match `{name}` of the schema")


def _alternatives(where: str, branches: Sequence[Sequence[ValidationError]]) -> str:
    if not all(branches):
        return "matches more than one of the alternatives, and must match one"
    best = explained(_closest(where, branches))
    at = f"{best.pointer} " if best.pointer != where else ""
    return f"matches none of the {len(branches)} alternatives; the closest: {at}{best.words}"


def _closest(where: str, branches: Sequence[Sequence[ValidationError]]) -> ValidationError:
    """The first violation of the alternative that fits best, through alternatives within it."""
    best = min(branches, key=lambda branch: (_misses(where, branch), len(branch)))[0]
    if str(best.kind.name) in ("anyOf", "oneOf") and best.kind.value and all(best.kind.value):
        return _closest(pointer(best.instance_path), best.kind.value)
    return best


def _misses(where: str, branch: Sequence[ValidationError]) -> bool:
    """Whether the alternative is for another type or constant altogether."""
    return any(
        (str(error.kind.name) == "type" and pointer(error.instance_path) == where) or str(error.kind.name) == "const"
        for error in branch
    )


def _cut(words: str) -> str:
    return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…"
