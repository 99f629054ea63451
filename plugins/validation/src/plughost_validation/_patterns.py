"""What a regular expression may cost: an upper bound that needs no more than one look at its text."""

from __future__ import annotations

import re
from typing import NamedTuple

UNICODE_CLASS = 128
"""What a class of Unicode properties is compiled to, in positions."""
WIDE_CLASS = 4
"""Positions of a class that holds characters of any length: there are up to four bytes to be read."""

_NEGATED = frozenset({r"\D", r"\W", r"\S", r"\s"})
_TOKEN = re.compile(
    r"(?P<escape>\\(?:(?P<property>[pP](?:\{[^}]*\}|.))|(?P<reference>[1-9k])|.)?)"
    r"|(?P<open>\((?:\?:|(?P<look>\?(?:<?[=!]|>)))?)"
    r"|(?P<close>\))"
    r"|(?P<class>\[(?:\\.|[^\]\\])*\]?)"
    r"|(?P<repeat>\{\s*(?P<least>\d*)\s*(?:,\s*(?P<most>\d*)\s*)?\})"
    r"|(?P<quantifier>[*+?])"
    r"|(?P<literal>.)",
    re.DOTALL,
)
MANY = 1e9
"""Stands for any larger number of positions: no engine compiles that many."""


class PatternCost(NamedTuple):
    """`positions` bounds the states that are alive at a time, `size` the memory; one that `backtracks` has neither."""

    positions: float
    size: float
    backtracks: bool


def cost_of(pattern: str) -> PatternCost:
    """Upper bounds of what the pattern has once its counted repeats are written out.

    A malformed pattern has a cost as well; the engine refuses it.
    """
    positions, backtracks = _written_out(pattern, WIDE_CLASS)
    return PatternCost(positions, _written_out(pattern, UNICODE_CLASS)[0], backtracks)


def _written_out(pattern: str, unicode_class: int) -> tuple[float, bool]:
    totals = [0.0]
    atom = 0.0
    quantified = backtracks = False
    for token in _TOKEN.finditer(pattern):
        if token["repeat"]:
            written_out = min(atom * _count(token["most"] or token["least"]), MANY)
            totals[-1] += written_out - atom
            atom = written_out
            quantified = True
            continue
        if token["quantifier"]:
            backtracks = backtracks or (quantified and token["quantifier"] == "+")  # possessive
            quantified = True
            continue
        quantified = False
        if token["open"]:
            backtracks = backtracks or bool(token["look"])
            totals.append(0.0)
            continue
        if token["close"]:
            atom = totals.pop() if len(totals) > 1 else 0.0
        elif token["escape"]:
            backtracks = backtracks or bool(token["reference"])
            atom = unicode_class if token["property"] else WIDE_CLASS if token["escape"] in _NEGATED else 1
        elif token["class"]:
            named = len(re.findall(r"\\[pP]", token["class"]))
            narrow = token["class"].isascii() and not re.match(r"\[\^|.*\\[DWSs]", token["class"], re.DOTALL)
            atom = (1 if narrow else WIDE_CLASS) + unicode_class * named
        else:
            atom = WIDE_CLASS if token["literal"] == "." or not token["literal"].isascii() else 1
        totals[-1] += atom
    return sum(totals), backtracks


def _count(digits: str) -> float:
    return max(float(digits or 1), 1.0) if len(digits) < 10 else MANY
