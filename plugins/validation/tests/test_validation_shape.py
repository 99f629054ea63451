"""How large a value is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_validation._shape import NODE, Bounds, OverLimit, is_small, locate, measure, pointer

LARGE = Bounds(size=10**6, depth=50, string=10**5, items=10**4)
SMALL = Bounds(size=400, depth=3, string=12, items=4)

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=80), inner, max_size=6),
    max_leaves=15,
)


def levels_of(value: Any) -> list[list[tuple[str, Any]]]:
    """All values by depth, each with the key that leads to it: the slow and obvious way."""
    found = [[("", value)]]
    while True:
        below: list[tuple[str, Any]] = []
        for _, item in found[-1]:
            if isinstance(item, dict):
                below += item.items()
            elif isinstance(item, list):
                below += [("", each) for each in item]
        if not any(isinstance(item, dict | list) for _, item in found[-1]):
            return found
        found.append(below)


def fits(value: Any, bounds: Bounds) -> bool:
    try:
        measure(value, bounds)
    except OverLimit:
        return False
    return True


@settings(max_examples=60)
@given(values)
def test_levels(value: Any) -> None:
    """Each level counts its values and the characters of strings and keys, none longer than the longest."""
    expected = levels_of(value)
    found = measure(value, LARGE)
    assert [nodes for nodes, _, _ in found] == [len(level) for level in expected]
    for (_, characters, longest), level in zip(found, expected, strict=True):
        texts = [text for pair in level for text in pair if isinstance(text, str)]
        assert characters == sum(map(len, texts))
        assert max(map(len, texts), default=0) <= longest <= max(characters, 0)


@settings(max_examples=70)
@given(values)
def test_bounds(value: Any) -> None:
    """A value fits exactly if each string, each array, its nesting and all of it together do."""
    levels = levels_of(value)
    items = [item for level in levels for _, item in level]
    texts = [text for level in levels for pair in level for text in pair if isinstance(text, str)]
    depth = sum(any(isinstance(item, dict | list) for _, item in level) for level in levels)
    expected = (
        max(map(len, texts), default=0) <= SMALL.string
        and all(len(item) <= SMALL.items for item in items if isinstance(item, dict | list))
        and depth <= SMALL.depth
        and sum(map(len, texts)) + NODE * len(items) <= SMALL.size
    )
    # Keys that together are longer than one may be are looked at one by one only beyond 64 characters.
    together = any(sum(map(len, item)) > SMALL.string for item in items if isinstance(item, dict))
    assert fits(value, SMALL) is expected or (together and expected)


@settings(max_examples=70)
@given(values.filter(lambda value: isinstance(value, dict | list)))
def test_what_is_small_breaks_no_bound(value: Any) -> None:
    """What looks small at first sight is within all bounds, and what has nothing large in it looks small."""
    small = is_small(value, SMALL.small(10**6))
    assert not small or fits(value, SMALL)
    tiny = Bounds(size=SMALL.string, depth=SMALL.depth, string=SMALL.string, items=SMALL.items)
    containers = sum(isinstance(item, dict | list) for level in levels_of(value) for _, item in level)
    exact = all(not isinstance(item, float) for level in levels_of(value) for _, item in level)
    if fits(value, tiny) and containers <= SMALL.depth and exact:
        assert small == (sum(c + NODE * n for n, c, _ in measure(value, tiny)) <= NODE * SMALL.items)


@settings(max_examples=40)
@given(values)
def test_size_is_about_that_of_the_json(value: Any) -> None:
    """The size that is bounded is the length of the JSON, give or take a factor for escapes and short numbers."""
    size = sum(characters + NODE * nodes for nodes, characters, _ in measure(value, LARGE))
    written = len(json.dumps(value, ensure_ascii=False))
    assert size <= 3 * written + NODE
    assert written <= 12 * size


@pytest.mark.parametrize(
    ("value", "rule", "where"),
    [
        ({"a": {"b": "x" * 13}}, "max_string", "/a/b"),
        ({"a": [1, 2, 3, 4, 5]}, "max_items", "/a"),
        ({"a": [{"b": []}]}, "max_depth", "/a/0/b"),
        ({"a": 2**63}, "number", "/a"),
        ({"a": [-(2**63) - 1]}, "number", "/a/0"),
        ({"a": float("nan")}, "number", "/a"),
        ({"a": [float("inf")]}, "number", "/a/0"),
        ({"a": {1: 2}}, "json", "/a"),
        ({"a~/": (1, 2)}, "json", "/a~0~1"),
    ],
)
def test_what_breaks_a_bound_is_named_and_found(value: Any, rule: str, where: str) -> None:
    """The rule and the JSON pointer of what breaks it (T10)."""
    with pytest.raises(OverLimit) as caught:
        measure(value, SMALL)
    assert (caught.value.rule, locate(value, SMALL)) == (rule, where)


def test_all_together_may_be_too_large() -> None:
    """Where no part breaks a bound, and all of it does, the pointer is that of the root."""
    value = {f"{n}": ["x" * 12] * 4 for n in range(4)} | {"0": [["x" * 12] * 4] * 4}
    with pytest.raises(OverLimit, match="at most 400 characters") as caught:
        measure(value, SMALL)
    assert (caught.value.rule, locate(value, SMALL)) == ("max_size", "")


def test_depth_is_bounded_without_recursion() -> None:
    """A value nested far deeper than Python recurses is refused, and where it is too deep is found (T10)."""
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(OverLimit, match="at most 3 objects and arrays deep"):
        measure(value, SMALL)
    assert locate(value, SMALL) == "/0/0/0"
    while isinstance(value, list):  # or the interpreter recurses to release it
        value = value.pop()


def test_lenient() -> None:
    """What a provider answers may hold what JSON does not, as long as it is not too large."""
    assert measure({"a": (1, 2), "b": 2**70}, LARGE, strict=False) == [(1, 0, 0), (2, 2, 2)]
    with pytest.raises(OverLimit):
        measure({"a": "x" * 13}, SMALL, strict=False)


def test_pointers_cut_long_keys() -> None:
    """A pointer holds at most 64 characters of each key, which is the caller's."""
    assert pointer(["a", 0, "k" * 100]) == "/a/0/" + "k" * 63 + "…"


def test_pointers_are_one_line() -> None:
    """A pointer holds no control character, and none that turns text around: it stands in logs."""
    assert pointer(["a\nb\u202e\x1b"]) == "/a\\u000ab\\u202e\\u001b"
