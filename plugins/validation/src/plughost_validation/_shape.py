"""How large a JSON value is, level by level, and whether that is within limits. Reads the value, and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

SMALLEST, LARGEST = -(2**63), 2**63 - 1
CONTAINERS = frozenset({dict, list})
SCALARS = frozenset({str, bool})
SMALL_CONTAINERS = 16
SHORT = 64
"""Up to here all keys of an object together count as one long key: to look at each costs more than it says."""
NODE = 3
"""Characters of JSON that a value takes besides its text: quotes, a comma."""


Level = tuple[int, int, int]
"""What lies at one depth below the root: values, the characters of strings and of the keys that lead here, and how
long the longest of them is at most."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a value may be. `size` is about the length of its JSON; `depth` counts nested objects and arrays."""

    size: int
    depth: int
    string: int
    items: int

    def small(self, most: int) -> Small:
        """What is within these bounds whatever it is made of, and not larger than `most`."""
        return Small(min(most, self.size, self.string, NODE * self.items), min(SMALL_CONTAINERS, self.depth))


@dataclass(frozen=True, slots=True)
class Small:
    """What most values are. `size` is all that a value's parts have together, `containers` how many may nest."""

    size: int
    containers: int


class OverLimit(Exception):  # noqa: N818 - it is an answer
    """A value is larger than it may be, or is no JSON. `rule` is what it broke, `words` say so."""

    def __init__(self, rule: str, words: str) -> None:
        super().__init__(words)
        self.rule = rule
        self.words = words


def measure(value: Any, bounds: Bounds, *, strict: bool = True) -> list[Level]:
    """The levels of a value, the root first.

    With `strict` it must be JSON all through, and every integer fit in 64 bits.

    Raises:
        OverLimit: A bound is exceeded. Nothing below the offending level is looked at.
    """
    root = len(value) if type(value) is str else 0
    found: list[Level] = [(1, root, root)]
    size = root + NODE
    longest = root
    most = bounds.items
    level = [value] if type(value) in CONTAINERS else []
    if strict and not level and not root:
        _check_scalar(value)
    while True:
        if longest > bounds.string:
            raise OverLimit("max_string", f"must be at most {bounds.string} characters long")
        if size > bounds.size:
            raise OverLimit("max_size", f"must be at most {bounds.size} characters of JSON in all")
        if not level:
            return found
        if len(found) > bounds.depth:
            raise OverLimit("max_depth", f"must be at most {bounds.depth} objects and arrays deep")
        below = []
        nodes = characters = longest = 0
        for item in level:
            count = len(item)
            if count > most:
                raise OverLimit("max_items", f"must have at most {most} items or properties")
            nodes += count
            if type(item) is dict:
                length = _length_of_keys(item)
                characters += length
                if length > longest:
                    longest = length if length <= SHORT else max(longest, *map(len, item))
                item = item.values()  # noqa: PLW2901 - from here on objects and arrays are alike
            for child in item:
                kind = type(child)
                if kind is str:
                    length = len(child)
                    characters += length
                    longest = max(longest, length)
                elif kind is dict or kind is list:
                    below.append(child)
                elif strict:
                    _check_scalar(child)
        size += characters + NODE * nodes
        found.append((nodes, characters, longest))
        level = below


def is_small(value: dict[str, Any] | list[Any], small: Small, *, strict: bool = True) -> bool:
    """Whether a value is small at first sight: then no bound is broken. If not, `measure` tells what it is.

    The total bounds every part, and the number of objects and arrays bounds how deep they nest.

    Raises:
        OverLimit: A key is no string.
    """
    size = NODE
    most, left = small.size, small.containers
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        left -= 1
        size += NODE * len(item)
        if left < 0 or size > most:
            return False
        if type(item) is dict:
            size += _length_of_keys(item)
            item = item.values()
        for child in item:
            kind = type(child)
            if kind is str:
                size += len(child)
            elif kind is dict or kind is list:
                waiting.append(child)
            elif strict and child is not None and kind is not bool and not _is_plain(child):
                return False
    return size <= most


def _is_plain(number: Any) -> bool:
    return type(number) is int and SMALLEST <= number <= LARGEST


def _length_of_keys(item: dict[Any, Any]) -> int:
    try:
        return len("".join(item))
    except TypeError:
        raise OverLimit("json", "must be JSON, whose keys are strings") from None


def _check_scalar(value: Any) -> None:
    # Larger integers cost validators quadratic time, and some compare them wrongly; NaN is not JSON.
    kind = type(value)
    if kind is int:
        if not SMALLEST <= value <= LARGEST:
            raise OverLimit("number", "must fit in 64 bits; write larger integers as strings")
    elif kind is float:
        if not isfinite(value):
            raise OverLimit("number", "must be a finite number")
    elif value is not None and kind not in SCALARS:
        raise OverLimit("json", "must be JSON")


def locate(value: Any, bounds: Bounds) -> str:
    """The JSON pointer of the first value that breaks a bound by itself, or of the root if none does."""
    for path, item in _walk(value, (), bounds.depth):
        kind = type(item)
        if kind in (dict, list) and (len(item) > bounds.items or len(path) >= bounds.depth):
            return pointer(path)
        if kind is str and len(item) > bounds.string:
            return pointer(path)
        if kind is dict and any(type(key) is not str or len(key) > bounds.string for key in item):
            return pointer(path)
        if kind not in CONTAINERS:
            try:
                _check_scalar(item)
            except OverLimit:
                return pointer(path)
    return ""


def _walk(value: Any, path: tuple[Any, ...], depth: int) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, value
    if len(path) < depth:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for key, item in pairs:
            yield from _walk(item, (*path, key), depth)


def pointer(path: Any) -> str:
    """A JSON pointer (RFC 6901). Keys are the caller's: long ones are cut, and what is not printable is escaped."""
    return "".join("/" + _cut(str(part)).replace("~", "~0").replace("/", "~1") for part in path)


def _cut(key: str, most: int = 64) -> str:
    short = key if len(key) <= most else key[: most - 1] + "…"
    return short if short.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in short)
