"""What operators see and say: parameters of the operations, and what they answer, as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict

from plughost_pinning._ledger import Entry, Ledger
from plughost_pinning._pin import Key, Pin

_SEEN = re.compile(r"(?P<name>.+)@(?P<sha256>[0-9a-f]{8,64})\Z", re.DOTALL)
DIGITS = 64
"""Of a digest: two definitions of which the first dozen are the same are found in seconds."""


class NameParameters(BaseModel):
    """What `diff` takes; nothing names everything that is quarantined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = ()
    """`NAME`, `PROVIDER/NAME` or `PROVIDER/KIND/NAME`."""


class ApproveParameters(BaseModel):
    """What `approve` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = ()
    """`NAME`, `PROVIDER/NAME` or `PROVIDER/KIND/NAME`; with `@SHA256` only if that is still what is listed."""
    all: bool = False
    """Approve all that is quarantined and not suspicious, and forget what is not listed any more."""


def select(ledger: Ledger, names: Iterable[str]) -> dict[Key, str | None]:
    """The entries that names stand for, each with the digest that its reviewer saw.

    Raises:
        ValueError: A name stands for nothing, for several without a digest, or has a digest that was cut.
    """
    found: dict[Key, str | None] = {}
    for text in names:
        seen = _SEEN.match(text)
        name, digest = (seen["name"], seen["sha256"]) if seen else (text, None)
        keys = named(ledger, name)
        if digest is not None and len(digest) < DIGITS:
            raise ValueError(f"{text!a} has {len(digest)} digits of a digest; give all {DIGITS}, as `diff` prints them")
        if digest is None and len(keys) > 1:
            several = ", ".join(sorted(f"{_full(key)!a}" for key in keys))
            raise ValueError(f"{name!a} stands for several: {several}; name one of them")
        found.update(dict.fromkeys(keys, digest))
    return found


def named(ledger: Ledger, name: str) -> list[Key]:
    """The entries that a name stands for: one with this full name is no other, whatever others call themselves.

    Raises:
        ValueError: It stands for nothing.
    """
    for written in (_full, str, lambda key: key.name):
        if keys := [key for key in ledger.entries if written(key) == name]:
            return keys
    close = get_close_matches(name, {str(key) for key in ledger.entries}, n=1)
    raise ValueError(f"nothing is listed as {name!a}{f'; did you mean {close[0]!a}?' if close else ''}")


def _full(key: Key) -> str:
    return f"{key.provider}/{key.kind}/{key.name}"


def listed(entry: Entry) -> dict[str, Any]:
    """One entry, in short."""
    return {
        **described(entry.key),
        "state": entry.state,
        "why": entry.why,
        "arguments": list(entry.arguments),
        "sha256": entry.pin.sha256 if entry.pin is not None else None,
        "findings": [{"severity": found.severity, "what": str(found)} for found in (*entry.findings, *entry.beside)],
    }


def described(key: Key) -> dict[str, str]:
    return {"provider": key.provider, "kind": key.kind, "name": key.name}


def compared(entry: Entry, before: Pin | None) -> dict[str, Any]:
    """One entry, with what was approved of it and what it is now; what differs of it in full."""
    return {
        **listed(entry),
        "before": _excerpt(before),
        "now": _excerpt(entry.pin),
        "changed": _changed(entry, before),
    }


def _changed(entry: Entry, before: Pin | None) -> Mapping[str, Any]:
    old = (before.fields if before is not None else None) or {}
    new = (entry.pin.fields if entry.pin is not None else None) or {}
    return {name: entry.definition.get(name) for name, short in new.items() if old.get(name) != short}


def _excerpt(pin: Pin | None) -> Mapping[str, Any] | None:
    return None if pin is None else {"description": pin.description, "inputs": list(pin.inputs)}
