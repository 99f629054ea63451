"""What is kept, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

LISTS = frozenset({"tools/list", "prompts/list", "resources/list", "resources/templates/list"})
METHODS = LISTS | {"resources/read", "tools/call"}
"""Methods whose answers may be kept."""
CONVERSING = ("inputResponses", "requestState", "task")
"""Parameters of a request that is part of a longer conversation (H3)."""


class Group:
    """What answers of one method of one provider have been like: where to look first, whether to wait for another's."""

    __slots__ = ("passes", "private", "public")

    def __init__(self) -> None:
        self.public = False
        """Whether one was for everybody."""
        self.private = False
        """Whether one was for its caller alone."""
        self.passes = False
        """Whether the last one could not be kept: then nobody waits for another's, or looks further than memory."""

    def saw(self, *, public: bool) -> None:
        """Note the scope of an answer."""
        if public:
            self.public = True
        else:
            self.private = True


@dataclass(frozen=True, slots=True)
class Rule:
    """How answers to one target are kept."""

    group: Group
    tags: tuple[str, ...]
    identity: bytes = b""
    """What answers, as it was configured and defined: part of the key in the second level."""
    named: float | None = None
    """Seconds that the operator named for this target."""
    default: float | None = None
    """Seconds where the answer says nothing."""


def named_for(patterns: Mapping[str, float], *names: str) -> float | None:
    """The seconds of the first pattern that fits one of the names."""
    for pattern, seconds in patterns.items():
        if any(fnmatchcase(name, pattern) for name in names):
            return seconds
    return None


def seconds_to_keep(result: Mapping[str, Any], rule: Rule, longest: float) -> float:
    """Seconds that a result may be kept; 0 for what must not be (K3, H3).

    The least of what the server advises, the operator named, and the cap. A server's advice of 0 is what SDKs send when
    nobody thought about it, so naming a target overrules it; `default` does not.
    """
    if result.get("resultType", "complete") != "complete" or result.get("isError"):
        return 0.0
    if "requestState" in result or "inputRequests" in result or "task" in result:
        return 0.0
    advice = result.get("ttlMs")
    advised = advice / 1000 if isinstance(advice, int | float) and not isinstance(advice, bool) else None
    if rule.named is not None:
        return min(rule.named, advised or longest, longest)
    if advised is None:
        advised = rule.default or 0.0
    return min(advised, longest) if advised > 0 else 0.0
