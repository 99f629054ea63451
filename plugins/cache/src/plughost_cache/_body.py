"""Answers as bytes: what is handed out is a copy that shares nothing with what is kept (K4)."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

FLEETING_META = frozenset({"traceparent", "tracestate", "baggage", "progressToken"})
"""What in a result's `_meta` belongs to one request."""
HINT = "io.plughost/cache"
"""The key in a result's `_meta` under which `advertise` tells the age."""


def pack(result: Mapping[str, Any]) -> bytes | None:
    """The bytes of a result, or `None` if it is no JSON value.

    They are `marshal`'s, which rebuilds JSON trees three times as fast as any parser of JSON. Such bytes depend on the
    version of Python and must never come from elsewhere: they stay in this process.
    """
    kept: Any = result
    meta = result.get("_meta")
    if isinstance(meta, Mapping) and not FLEETING_META.isdisjoint(meta):
        kept = {**result, "_meta": {key: value for key, value in meta.items() if key not in FLEETING_META}}
    try:
        return marshal.dumps(kept)
    except ValueError:  # a subclass of `dict` or `str` somewhere
        try:
            return marshal.dumps(from_json(to_json(kept)))
        except (PydanticSerializationError, ValueError):
            return None


def unpack(body: bytes) -> dict[str, Any]:
    """A new result from its bytes."""
    result: dict[str, Any] = marshal.loads(body)  # noqa: S302 - made by `pack` in this process
    return result


def as_json(body: bytes) -> bytes:
    """The bytes as other processes can read them."""
    return to_json(unpack(body))


def from_other(text: bytes) -> bytes:
    """The bytes of what another process wrote as JSON.

    Raises:
        ValueError: It is no JSON object.
    """
    result = from_json(text)
    if not isinstance(result, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - of what was written, not of an argument
    return marshal.dumps(result)


def handed_out(body: bytes, age: float, *, advertise: bool) -> dict[str, Any]:
    """A result to answer with. Its `ttlMs` is what is left, so that no client keeps it longer than its server said."""
    result = unpack(body)
    ttl = result.get("ttlMs")
    if ttl is not None:
        result["ttlMs"] = max(0, int(ttl - age * 1000))
    if advertise:
        meta = result.get("_meta")
        result["_meta"] = {**(meta if isinstance(meta, dict) else {}), HINT: {"ageMs": max(0, int(age * 1000))}}
    return result
