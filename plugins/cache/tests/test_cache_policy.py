"""What is kept, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost_cache._policy import Group, Rule, named_for, seconds_to_keep

SECONDS = st.none() | st.floats(0.001, 1e5)


def rule(named: float | None = None, default: float | None = None) -> Rule:
    return Rule(Group(), ("all",), b"", named, default)


@given(st.none() | st.integers(-5, 10**8), SECONDS, SECONDS, st.floats(0.001, 1e5))
def test_no_answer_is_kept_longer_than_anybody_says(
    ttl_ms: int | None, named: float | None, default: float | None, longest: float
) -> None:
    """The least of the server's advice, what the operator named and the cap."""
    result = {} if ttl_ms is None else {"ttlMs": ttl_ms}
    kept = seconds_to_keep(result, rule(named, default), longest)
    assert kept <= longest
    if named is not None:
        assert kept <= named
    if ttl_ms is not None and ttl_ms > 0:
        assert kept <= ttl_ms / 1000
    if ttl_ms is not None and ttl_ms < 0:
        assert kept <= 0


@pytest.mark.parametrize(
    ("result", "named", "default", "seconds"),
    [
        ({}, None, None, 0),
        ({}, None, 30, 30),
        ({}, 20, 30, 20),
        ({"ttlMs": 0}, None, 30, 0),
        ({"ttlMs": 0}, 20, None, 20),
        ({"ttlMs": 5000}, 20, None, 5),
        ({"ttlMs": 5000}, None, None, 5),
        ({"ttlMs": 10**9}, None, None, 100),
        ({"ttlMs": "5000"}, None, None, 0),
        ({"ttlMs": True}, None, None, 0),
    ],
)
def test_advice_and_its_absence(
    result: dict[str, Any], named: float | None, default: float | None, seconds: float
) -> None:
    """A target that is named overrules an advice of 0; the default is for answers without any advice (K1)."""
    assert seconds_to_keep(result, rule(named, default), 100) == seconds


@pytest.mark.parametrize(
    "result",
    [
        {"isError": True},
        {"resultType": "input_required", "inputRequests": {}},
        {"resultType": "task", "task": {}},
        {"requestState": "sealed"},
        {"inputRequests": {}},
        {"task": {"taskId": "1"}},
    ],
)
def test_what_is_no_complete_success_is_never_kept(result: dict[str, Any]) -> None:
    """Neither a tool's failure (K3) nor a part of a conversation (H3), whoever named it and whatever its `ttlMs`."""
    assert seconds_to_keep({**result, "ttlMs": 5000}, rule(100, 100), 100) == 0


def test_the_first_pattern_that_fits_counts() -> None:
    """Patterns are globs on the name, or on provider and name, in the order of the config."""
    patterns = {"notes/search_*": 1.0, "search_*": 2.0, "*": 3.0}
    assert named_for(patterns, "search_all", "notes/search_all") == 1
    assert named_for(patterns, "search_all", "files/search_all") == 2
    assert named_for(patterns, "other", "files/other") == 3
    assert named_for({}, "other") is None
