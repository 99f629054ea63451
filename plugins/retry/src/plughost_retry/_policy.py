"""Which calls may be made again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any

from plughost import Call

READS = frozenset(
    {"tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read", "prompts/get"}
)
"""Methods that the specification has retrieve something, and nothing else."""
ROUNDS = ("inputResponses", "requestState")
"""Parameters that continue a call of several rounds: the provider may have used up what they refer to."""
REMEMBERED = 1024
"""Tool names that are kept at hand; names are the clients' to invent."""

Annotations = Callable[[Call], Mapping[str, Any]]


class Policy:
    """The operator's word on what may run twice.

    `tools` and `hedged_tools` are globs on the provider's own names. `annotations` tells those of a call's tool; what a
    provider says there of itself is believed only if it is named in `trusted` (A10).
    """

    def __init__(
        self,
        *,
        tools: Collection[str],
        hedged_tools: Collection[str],
        reads: bool,
        trusted: Collection[str],
        annotations: Annotations,
    ) -> None:
        self._named = lru_cache(REMEMBERED)(partial(_fits, (*tools, *hedged_tools)))
        self._hedged = lru_cache(REMEMBERED)(partial(_fits, tuple(hedged_tools)))
        self._reads = READS if reads else frozenset()
        self._trusted = frozenset(trusted)
        self._annotations = annotations

    def repeatable(self, call: Call) -> bool:
        """Whether the call may be made more than once."""
        if call.method == "tools/call":
            if not self._named(call.local_name) and not self._declared(call):
                return False
        elif call.method not in self._reads:
            return False
        return not any(key in call.params for key in ROUNDS)

    def hedged(self, call: Call) -> bool:
        """Whether a repeatable call may be made twice at the same time."""
        return call.method == "tools/call" and self._hedged(call.local_name)

    def _declared(self, call: Call) -> bool:
        if call.provider not in self._trusted:
            return False
        said = self._annotations(call)
        return said.get("readOnlyHint") is True or said.get("idempotentHint") is True


def _fits(globs: tuple[str, ...], name: str | None) -> bool:
    return any(fnmatchcase(name or "", glob) for glob in globs)
