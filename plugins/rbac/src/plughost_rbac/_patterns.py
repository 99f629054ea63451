"""Whether names, URIs and arguments are what a rule says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any

from plughost.spelling import plain, usual

from plughost_rbac._config import Between

WILD = re.compile(r"[*?\[]")
MISSING = object()
MANY = 1000
"""Elements of a list that are looked at, each; a longer one is never surely right."""


class Glob:
    """Any of some globs. `wild` ones fit nothing that hides where it leads; `*` alone fits everything."""

    __slots__ = ("_exact", "_usual", "_wild", "anything", "patterns")

    def __init__(self, patterns: Iterable[str], *, ignore_case: bool = False) -> None:
        self.patterns = tuple(patterns)
        self.anything = "*" in self.patterns
        exact = [pattern for pattern in self.patterns if not WILD.search(pattern)]
        wild = [pattern for pattern in self.patterns if WILD.search(pattern)]
        flags = re.IGNORECASE if ignore_case else 0
        self._exact = re.compile("|".join(re.escape(pattern) for pattern in exact), flags) if exact else None
        self._wild = re.compile("|".join(map(translate, wild)), flags) if wild else None
        self._usual = re.compile("|".join(translate(usual(it)) for it in self.patterns) or "(?!)")

    def fits(self, text: str) -> bool:
        """Whether one of them is this text."""
        return self.anything or self._is(text)

    def surely(self, text: str) -> bool:
        """Whether one of them is this text, and the text leads where it says: what an allowance needs."""
        if self.anything or (self._exact is not None and self._exact.fullmatch(text) is not None):
            return True
        return self._wild is not None and self._wild.match(text) is not None and plain(text)

    def possibly(self, text: str) -> bool:
        """Whether one of them may be meant by this text, however it is written: what a refusal needs."""
        return self.anything or not plain(text) or self._is(text) or self._usual.match(usual(text)) is not None

    def _is(self, text: str) -> bool:
        return (self._exact is not None and self._exact.fullmatch(text) is not None) or (
            self._wild is not None and self._wild.match(text) is not None
        )


class Condition:
    """What one argument has to be. `deny` says that it is for a refusal, to which another case is no other text."""

    __slots__ = ("_globs", "_path", "_ranges", "_values", "name")

    def __init__(self, name: str, expected: Sequence[Any], *, deny: bool = False) -> None:
        self.name = name
        self._path = _parts(name)
        self._globs = Glob((value for value in expected if isinstance(value, str)), ignore_case=deny)
        self._ranges = [value for value in expected if isinstance(value, Between)]
        self._values = [value for value in expected if not isinstance(value, str | Between)]

    def holds(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the argument is there, and surely what it has to be; of a list each element."""
        value = self._find(arguments)
        if isinstance(value, list):
            return 0 < len(value) <= MANY and all(map(self._surely, value))
        return self._surely(value)

    def may_hold(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the argument is there, and may be what is not wanted; of a list any element."""
        value = self._find(arguments)
        if isinstance(value, list):
            return len(value) > MANY or any(map(self._possibly, value))
        return self._possibly(value)

    def _find(self, arguments: Any) -> Any:
        for part in self._path:
            if not isinstance(arguments, Mapping) or part not in arguments:
                return MISSING
            arguments = arguments[part]
        return arguments

    def _surely(self, value: Any) -> bool:
        if isinstance(value, str):
            return bool(self._globs.patterns) and self._globs.surely(value)
        if isinstance(value, bool):
            return any(value is item for item in self._values)
        return any(value == item and not isinstance(item, bool) for item in self._values) or self._within(value)

    def _possibly(self, value: Any) -> bool:
        """As a server may read it that converts what it gets: a text to a number or a truth, a truth to a number."""
        if isinstance(value, str):
            return bool(self._values or self._ranges) or (bool(self._globs.patterns) and self._globs.possibly(value))
        return value in self._values or self._within(value)

    def _within(self, value: Any) -> bool:
        return isinstance(value, int | float) and any(
            (-math.inf if it.min is None else it.min) <= value <= (math.inf if it.max is None else it.max)
            for it in self._ranges
        )


def _parts(name: str) -> tuple[str, ...]:
    """The way to an argument: its name, or a JSON pointer (RFC 6901)."""
    if not name.startswith("/"):
        return (name,)
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in name[1:].split("/"))
