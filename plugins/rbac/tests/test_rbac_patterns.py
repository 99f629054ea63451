"""What a glob, a URI and an argument have to be, to be what a rule says."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost_rbac import Between
from plughost_rbac._patterns import Condition, Glob

NAMES = st.text("ab_", max_size=5)
GLOBS = st.text("ab_*?", min_size=1, max_size=4)


@given(st.lists(GLOBS, max_size=4), NAMES)
def test_globs_are_those_of_the_standard_library(patterns: list[str], name: str) -> None:
    """Many at once fit what one of them fits."""
    expected = any(fnmatchcase(name, pattern) for pattern in patterns)
    glob = Glob(patterns)
    assert glob.fits(name) == glob.surely(name) == glob.possibly(name) == expected


@pytest.mark.parametrize("uri", ["note://open/../secret", "note://open/%2e%2e/secret"])
def test_a_uri_that_leads_elsewhere_fits_no_allowance_and_every_refusal(uri: str) -> None:
    """A8: `note://open/*` is about what is below `open`."""
    assert Glob(["note://open/*"]).fits(uri)
    assert not Glob(["note://open/*"]).surely(uri)
    assert Glob(["note://other"]).possibly(uri)
    assert Glob(["*"]).surely(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "note://secret/1",
        "NOTE://Secret/1",
        "note://%73ecret/1",
        "note://%2573ecret/1",
        "note:////secret/1",
        "note://secret\\1",
        "note://secret%2F%2F1",
        "note://./secret/1",
    ],
)
def test_another_spelling_is_refused_too(uri: str) -> None:
    """A refusal is meant for the thing, not for its spelling."""
    assert Glob(["note://secret/*"], ignore_case=True).possibly(uri)


def test_a_text_that_is_too_long_is_refused_at_once() -> None:
    """Megabytes of `%252f` would hold up everybody for seconds: no wildcard that allows fits, each that refuses."""
    text = "note://open/" + "%252f" * 100_000
    assert not Glob(["note://open/*"]).surely(text)
    assert Glob(["note://other"], ignore_case=True).possibly(text)


@pytest.mark.parametrize(
    ("expected", "value", "holds"),
    [
        (["a*"], "abc", True),
        (["a*"], "b", False),
        (["a/*"], "a/../b", False),
        (["a/*"], ["a/1", "a/2"], True),
        (["a/*"], ["a/1", "b"], False),
        (["a/*"], [], False),
        ([1], 1, True),
        ([1], 1.0, True),
        ([1], True, False),
        ([True], True, True),
        ([True], 1, False),
        (["1"], 1, False),
        ([1], "1", False),
        ([Between(min=1, max=3)], 3, True),
        ([Between(min=1, max=3)], 3.1, False),
        ([Between(max=3)], -100, True),
        ([Between(max=3)], float("nan"), False),
        ([Between(max=3)], True, False),
        (["a", 1], 1, True),
        (["a"], None, False),
        (["a"], {"a": "a"}, False),
    ],
)
def test_an_argument_is_what_it_has_to_be(expected: list[Any], value: Any, *, holds: bool) -> None:
    """Of the same type, and of a list each element."""
    assert Condition("x", expected).holds({"x": value}) is holds


def test_an_argument_that_is_missing_is_nothing() -> None:
    """Neither what is allowed, nor what is refused."""
    condition = Condition("x", ["*"])
    assert not condition.holds({})
    assert not condition.may_hold({})


def test_one_element_is_enough_to_refuse() -> None:
    """And one that leads elsewhere."""
    condition = Condition("x", ["secret/*"])
    assert condition.may_hold({"x": ["open/1", "secret/2"]})
    assert condition.may_hold({"x": "open/../secret/2"})
    assert not condition.may_hold({"x": ["open/1"]})


@pytest.mark.parametrize(
    ("expected", "value", "refused"),
    [
        ([Between(min=1000)], "5000", True),
        ([Between(min=1000)], 5000, True),
        ([Between(min=1000)], 50, False),
        ([True], "true", True),
        ([1], True, True),
        ([True], 1, True),
        ([True], 0, False),
        ([Between(min=1, max=1)], True, True),
        ([1], False, False),
        (["secret"], "open", False),
        (["secret"], "Secret", True),
        (["secret/*"], "./secret//1", True),
        (["secret"], {"secret": 1}, False),
    ],
)
def test_what_a_server_may_read_so_is_refused(expected: list[Any], value: Any, *, refused: bool) -> None:
    """Servers convert arguments, and files have other names: no other type or spelling is the way around a refusal."""
    assert Condition("x", expected, deny=True).may_hold({"x": value}) is refused


def test_a_list_that_is_too_long_is_refused_at_once() -> None:
    """Looking at all of its elements would hold up everybody for seconds."""
    elements = ["open/1"] * 1000
    assert Condition("x", ["open/*"]).holds({"x": elements})
    assert not Condition("x", ["secret/*"], deny=True).may_hold({"x": elements})
    assert not Condition("x", ["open/*"]).holds({"x": [*elements, "open/1"]})
    assert Condition("x", ["secret/*"], deny=True).may_hold({"x": [*elements, "open/1"]})


def test_a_json_pointer_leads_inside() -> None:
    """RFC 6901, objects only."""
    condition = Condition("/a~1b/c~0d", [1])
    assert condition.holds({"a/b": {"c~d": 1}})
    assert not condition.holds({"a/b": [1]})
