"""What a pattern may cost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_validation._patterns import MANY, cost_of


@pytest.mark.parametrize(
    ("pattern", "positions"),
    [
        ("abc", 3),
        ("a{10}", 10),
        ("a{2,}b", 3),
        ("(ab{3}){4}c", 17),
        ("[ab]*a[ab]{30}", 32),
        (r"\d{4}-\d{2}", 7),
        (r"[\]x]{5}", 5),
        ("a{3}{3}", 9),
        ("(?:a{1000}){1000}", 1_000_000),
        ("((a{9999999999}){99}){99}", MANY),
        ("(){99999999999}a", 1),
        ("a{", 2),
        (".{5}", 20),
    ],
)
def test_counted_repeats_are_written_out(pattern: str, positions: float) -> None:
    """A pattern has as many positions as one without counted repeats would."""
    assert cost_of(pattern).positions == positions


def test_unicode_classes_are_large() -> None:
    """A class of Unicode properties takes more memory than states."""
    cost = cost_of(r"^[\p{L}\d]{1,64}$")
    assert cost.size > 64 * 100
    assert cost.positions < 64 * 10


@pytest.mark.parametrize(
    "pattern", ["a(?=b)", "(?!x)", "(?<=x)a", "(?<!x)a", r"(a)\1", r"(?<n>a)\k<n>", "(?>a)", "a*+"]
)
def test_what_no_automaton_takes(pattern: str) -> None:
    """Lookaround, references, atomic groups and possessive repeats backtrack."""
    assert cost_of(pattern).backtracks


@pytest.mark.parametrize("pattern", ["a(?:b)", "(?<n>a)", "(?i)a", r"\d+", "a+?b", "^(a+)+$", r"\(?=", "[(?=]"])
def test_what_an_automaton_takes(pattern: str) -> None:
    """Everything else does not."""
    assert not cost_of(pattern).backtracks


@settings(max_examples=100)
@given(st.text(alphabet="ab(){}[]\\?*+|,.^$019=!<>:pk", max_size=30))
def test_any_text(pattern: str) -> None:
    """Any text has a finite cost, at least one position for each letter that the pattern can match."""
    cost = cost_of(pattern)
    assert 0 <= cost.positions <= cost.size < float("inf")
    letters = re.sub(r"\\.|\[[^\]]*\]?|\{[^}]*\}|[^ab]", "", pattern, flags=re.DOTALL)
    assert cost.positions >= len(letters)
