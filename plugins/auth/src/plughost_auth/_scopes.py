"""Which scopes a request needs, by what it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from plughost import TARGETS
from plughost.spelling import plain, usual

LONG = 256
"""Characters of a name beyond which its scopes are not remembered: names are the callers' to invent."""
METHODS = frozenset({*TARGETS, "completion/complete"})
"""Methods whose parameters name something that may need scopes."""


def named(method: object, params: object) -> str | None:
    """The tool, prompt or resource that a request is about, as its body has it (T4)."""
    if not isinstance(method, str) or not isinstance(params, Mapping):
        return None
    if method == "completion/complete":
        ref = params.get("ref")
        name = (ref.get("name") or ref.get("uri")) if isinstance(ref, Mapping) else None
    else:
        name = params.get(TARGETS.get(method, ""))
    return name if isinstance(name, str) else None


class ScopeRules:
    """Scopes that every request needs, and those that targets need besides."""

    def __init__(self, required: Sequence[str], by_target: Mapping[str, Sequence[str]]) -> None:
        self.required = frozenset(required)
        self.by_target = {glob: frozenset(scopes) for glob, scopes in by_target.items()}
        self._needed = lru_cache(maxsize=4096)(self._look_up)

    @property
    def all(self) -> list[str]:
        """Every scope there is a use for."""
        return sorted(self.required.union(*self.by_target.values()))

    def needed(self, method: object, params: object) -> frozenset[str]:
        """Every scope that this request needs."""
        name = named(method, params) if self.by_target else None
        if name is None:
            return self.required
        return self._needed(name) if len(name) <= LONG else self._look_up(name)

    def needed_by_body(self, message: Any) -> frozenset[str]:
        """Every scope that a JSON-RPC message needs; the endpoint takes no batches."""
        if not isinstance(message, Mapping):
            return self.required
        return self.needed(message.get("method"), message.get("params"))

    def _look_up(self, name: str) -> frozenset[str]:
        """By name, however it is written: a server that decodes it would find what the scopes are for.

        A name that does not say where it leads needs all of them.
        """
        if not plain(name):
            return self.required.union(*self.by_target.values())
        other = usual(name)
        found = (
            scopes
            for glob, scopes in self.by_target.items()
            if fnmatchcase(name, glob) or fnmatchcase(other, usual(glob))
        )
        return self.required.union(*found)
