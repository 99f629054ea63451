"""Canonical JSON (RFC 8785): one text for each value, whatever the order of its keys, and the digest of that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from math import isfinite
from typing import Any

DEEPEST = 200
"""Levels that a definition may be nested."""


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal digits.

    Raises:
        ValueError: The value has no canonical text.
    """
    return digest_of_text(canonical(value))


def digest_of_text(text: str) -> str:
    """SHA-256 of a canonical text."""
    return sha256(text.encode()).hexdigest()


def canonical(value: Any, depth: int = 0) -> str:
    """The canonical text.

    An integer that no double holds is written with all its digits, where RFC 8785 knows only doubles: schemas have
    bounds of 64 bits, and two that differ must not look the same.

    Raises:
        ValueError: It is not JSON: a number that is none, a lone surrogate, something else; or it is nested too deep.
    """
    if depth > DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    kind = type(value)  # of the many small parts of a definition nearly all are one of these
    if kind is str:
        return _text(value)
    if kind is dict:
        return _object(value, depth)
    match value:
        case None | True | False:
            return "null" if value is None else "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(int(value))
        case float():
            return _number(value)
        case Mapping():
            return _object(value, depth)
        case list() | tuple():
            return f"[{','.join([canonical(item, depth + 1) for item in value])}]"
    raise ValueError(f"{type(value).__name__} is not JSON")


def joined(members: Mapping[str, str]) -> str:
    """The canonical text of an object from those of its values.

    Raises:
        ValueError: A key is none.
    """
    if not all(isinstance(key, str) for key in members):
        raise ValueError("a key is not text")
    keys = sorted(members) if "".join(members).isascii() else sorted(members, key=_utf16)
    return f"{{{','.join([f'{_text(key)}:{members[key]}' for key in keys])}}}"


def _object(value: Mapping[Any, Any], depth: int) -> str:
    return joined({key: canonical(item, depth + 1) for key, item in value.items()})


_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _text(value: str) -> str:
    if not value.isascii():
        _utf16(value)
    return _quoted(value)


def _utf16(value: str) -> bytes:
    """The order of keys: that of their UTF-16 code units. A lone surrogate has none, and raises."""
    return value.encode("utf-16-be")


def _number(value: float) -> str:
    """As ECMAScript writes it: the shortest digits that give the same double, in plain notation from 1e-6 to 1e21."""
    if not isfinite(value):
        raise ValueError(f"{value} is not JSON")
    if value == 0:
        return "0"
    text = repr(value)
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f").removesuffix(".0")
    return text.replace("e-0", "e-")
