"""A compiled schema: whether a value fits, and if not, where and why. Knows neither tools nor calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, NoReturn

import jsonschema_rs

from plughost_validation._shape import SMALL_CONTAINERS, Bounds, Level, OverLimit, measure
from plughost_validation._violation import Violation, explained
from plughost_validation._work import UnusableSchema, Work

SCHEMA_DEPTH = 100
"""How deep a schema may nest; the validator takes 255."""
SCHEMA_STRING = 100_000
SMALL = 2048
"""The size of what is validated without counting its steps, if no value of that size can take too many."""
MAX_VIOLATIONS = 5
"""How many are told at once."""
EXPLAINED_STEPS = 20_000
"""Up to here it is told where a value breaks its schema. To find out costs a hundred times of what finding it does."""
BACKTRACKS = 10_000
"""Of a pattern with lookaround or references, for one string; one that needs more does not match."""
PATTERN_BYTES = 10 * 2**20
PATTERNS = jsonschema_rs.FancyRegexOptions(
    backtrack_limit=BACKTRACKS, size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES
)
"""Patterns run in linear time; those that cannot, since they look around or refer back, with a limit."""


class CompiledSchema:
    """A schema whose work is bounded.

    Raises:
        UnusableSchema: It is malformed, too large, refers to what it does not hold, or costs too much.
    """

    __slots__ = ("_is_valid", "_iter_errors", "_max_steps", "_small_is_cheap", "_work", "size")

    def __init__(self, schema: Any, *, formats: bool = False, max_nodes: int = 10_000, max_steps: int = 10**6) -> None:
        if not isinstance(schema, dict | bool):
            raise UnusableSchema("it is neither an object nor a boolean")
        bounds = Bounds(size=SCHEMA_STRING * 100, depth=SCHEMA_DEPTH, string=SCHEMA_STRING, items=max_nodes)
        try:
            levels = measure(schema, bounds)
        except OverLimit as error:
            raise UnusableSchema(f"it {error.words}") from None
        values = sum(nodes for nodes, _, _ in levels)
        if values > max_nodes:
            raise UnusableSchema(f"it must have at most {max_nodes} values; raise max_schema if it is right")
        self._work = Work(schema, max_nodes=max_nodes, formats=formats)
        self._max_steps = max_steps
        if self._work.steps([(1, 1, 1)]) > max_steps:
            raise UnusableSchema(f"even the smallest value may cost more than {max_steps} steps")
        self._small_is_cheap = self._work.bounds_small(SMALL, SMALL_CONTAINERS, max_steps)
        self.size = values + self._work.size  # a quarter of a kilobyte each, once they are compiled
        validator = _compiled(schema, formats)
        self._is_valid = validator.is_valid
        self._iter_errors = validator.iter_errors

    def accepts_small(self, value: Any) -> bool:
        """Whether a value that `is_small` fits. False if that takes a closer look."""
        try:
            return self._small_is_cheap and self._fits(value)
        except UnicodeError:
            return False

    def violations(self, value: Any, levels: Sequence[Level]) -> Sequence[Violation]:
        """Where `value`, which `measure` gave these `levels`, breaks the schema; empty if nowhere."""
        steps = self._work.steps(levels)
        if steps > self._max_steps:
            return [
                Violation("", "max_steps", "is too large and too deep to be checked against this schema; send less")
            ]
        try:
            return self._broken(value, steps)
        except UnicodeError:
            return [Violation("", "json", "must be JSON, whose strings hold no half of a surrogate pair")]

    def _broken(self, value: Any, steps: float) -> Sequence[Violation]:
        if self._fits(value):
            return ()
        if steps > EXPLAINED_STEPS:
            return [Violation("", "schema", "does not match; it is too large to say where")]
        return [explained(error) for error in islice(self._iter_errors(value), MAX_VIOLATIONS)]

    def _fits(self, value: Any) -> bool:
        try:
            return self._is_valid(value)
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as panic:  # of the library: no Exception, so it would end more than this call
            raise RuntimeError("the validator failed in a way that nobody foresaw") from panic


def _compiled(schema: Any, formats: bool) -> jsonschema_rs.Validator:  # noqa: FBT001 - one caller, one flag
    try:
        return jsonschema_rs.validator_for(schema, retriever=_deny, validate_formats=formats, pattern_options=PATTERNS)
    except (KeyboardInterrupt, SystemExit):
        raise
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path)
        raise UnusableSchema(
            f"{'/' + where if where else 'it'} is no valid schema: {_one_line(error.message)}"
        ) from None
    except BaseException as error:  # a panic of the library too, which is no Exception
        raise UnusableSchema(f"it cannot be compiled: {_one_line(str(error))}") from error


def _deny(uri: str) -> NoReturn:
    raise UnusableSchema(f"{uri!r} is not fetched")


def _one_line(message: str, most: int = 200) -> str:
    line = re.sub(r"\s+", " ", message)
    return line if len(line) <= most else line[: most - 1] + "…"
