"""How much work a schema makes of an instance: an upper bound, worked out before the work is done.

A validator cannot be interrupted, and a short schema may cost any amount: references double the work at each step,
unions of recursive types do so at each level of the instance, `unevaluatedProperties` evaluates its surroundings again.
So a bound is counted before. The subschemas form a graph whose edges either stay at a value (`allOf`, `$ref`) or step
down into it (`properties`, `items`). Along the edges it is added up what a value at each depth can cost; times the
number of values that the instance has there, that is the bound. A step is what the validator needs for one keyword or
one comparison, up to 100 ns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from plughost_validation._patterns import cost_of
from plughost_validation._shape import NODE, Level

IN_PLACE = frozenset({"not", "if", "then", "else"})
IN_PLACE_LISTS = frozenset({"allOf", "anyOf", "oneOf"})
IN_PLACE_MAPS = frozenset({"dependentSchemas", "dependencies"})
DOWN = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "items",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
DEFINITIONS = frozenset({"$defs", "definitions"})
SUBSCHEMA = IN_PLACE | DOWN | {"contentSchema"}
LISTS = IN_PLACE_LISTS | {"prefixItems", "items"}
MAPS = IN_PLACE_MAPS | DEFINITIONS | {"properties", "patternProperties"}
AGAIN = frozenset({"unevaluatedItems", "unevaluatedProperties"})
"""Keywords that evaluate again what stands beside them."""
AGAIN_FACTOR = 3.0

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""Of a schema that names none."""
META_SCHEMAS = ("http://json-schema.org/", "https://json-schema.org/")
META_STEPS = 500.0
"""Of a value held against a meta-schema, which the validator brings along."""
MULTIPLE_STEPS = 25.0
"""Of `multipleOf`, at worst: numbers with hundreds of digits are divided."""
FRACTION_STEPS = 300.0
"""Of `multipleOf` with a fraction."""
ASSERT_CONTENT = ("draft-06", "draft-07")
"""The drafts by which the validator decodes and parses strings; by the others content is a mere note."""
DECODING_STEPS = 0.02
"""Of a character of base64."""
PARSING_STEPS = 1.0
"""Of a character of a string that is JSON itself."""
FORMAT_STEPS = 0.5
"""Of a character that is held against a format."""
MAX_SIZE = 20_000
"""Of all patterns of a schema: bounds what compiling them takes, half a second and a dozen megabytes at worst."""
STEPS_PER_POSITION = 1 / 18
"""Of a character, at worst: an automaton that keeps all its states alive."""
STEPS_PER_LOOK = 0.045
"""Of a character and every character after it: looking around begins anew at each."""
ENDLESS = 1e18
"""Stands for any larger number of steps; infinity times no characters would be no number."""
TABLE_CELLS = 50_000
"""How many numbers the bound of one schema may take to work out."""

_PLAIN = re.compile(
    r"(?:https?|file)://[a-z0-9.-]*(?:/[\w~-][\w.~-]*)*/?|urn:[\w:.~-]+|[\w~-][\w.~-]*(?:/[\w~-][\w.~-]*)*/?", re.ASCII
)
"""Identifiers that are written in one way only, so that the validator cannot take one for another."""


class UnusableSchema(ValueError):  # noqa: N818 - it is an answer
    """Raised when a schema cannot be used within bounds. The message says why, for the operator."""


@dataclass(slots=True)
class Cost:
    """Steps: for a value, for each of its characters, and for each pair of them."""

    value: float = 0.0
    character: float = 0.0
    pair: float = 0.0

    def add(self, other: Cost, factor: float = 1.0) -> None:
        self.value = min(self.value + other.value * factor, ENDLESS)
        self.character = min(self.character + other.character * factor, ENDLESS)
        self.pair = min(self.pair + other.pair * factor, ENDLESS)

    def raise_to(self, other: Cost) -> None:
        self.value = max(self.value, other.value)
        self.character = max(self.character, other.character)
        self.pair = max(self.pair, other.pair)

    def __bool__(self) -> bool:
        return bool(self.value or self.character or self.pair)


NOTHING = Cost()


@dataclass(slots=True)
class Node:
    """A subschema: what it costs by itself, and which others it applies, to the same value or one level down."""

    here: Cost = field(default_factory=Cost)
    below: Cost = field(default_factory=Cost)
    """What its key patterns cost for each value one level down."""
    same: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    down_one_of: list[list[int]] = field(default_factory=list)
    """Groups of which one applies to a value: by its property, or its place in the array."""
    same_one_of: list[list[int]] = field(default_factory=list)
    """Groups of which one is what a dynamic reference leads to."""
    factor: float = 1.0
    everywhere: float = 0.0
    """Steps at every level: a meta-schema."""
    compared: float = 0.0
    """Steps at every level below: what must be unique is read all through."""


class Work:
    """The bound for one schema. `steps(levels)` is it for an instance that `measure` has measured.

    Raises:
        UnusableSchema: A reference leads nowhere, outside or around in a circle, or the schema is too large.
    """

    def __init__(self, schema: Any, *, max_nodes: int, formats: bool = False) -> None:
        graph = _Graph(schema, max_nodes, formats=formats)
        self._nodes = graph.nodes
        self.size = graph.size
        """Of all patterns, in positions."""
        try:
            sorter = TopologicalSorter({index: _edges(node) for index, node in enumerate(self._nodes)})
            self._order = tuple(sorter.static_order())
        except CycleError:
            raise UnusableSchema("a $ref leads back to itself without stepping into the value") from None
        self._cells = 0
        self._table: list[Cost] = []
        self._last: Sequence[Cost] = ()

    def steps(self, levels: Iterable[Level]) -> float:
        """At most so many steps does validating an instance take."""
        total = 0.0
        for depth, (nodes, characters, longest) in enumerate(levels):
            cost = self._at(depth)
            if cost is NOTHING:
                break
            total += nodes * cost.value + characters * (cost.character + longest * cost.pair)
        return total

    def bounds_small(self, size: int, depth: int, max_steps: float) -> bool:
        """Whether no instance of this size and depth can take more steps, whatever it is made of."""
        most = _most(self._at(level) for level in range(depth + 1))
        return size * (most.value / NODE + most.character + size * most.pair) <= max_steps

    def _at(self, depth: int) -> Cost:
        while len(self._table) <= depth:
            if self._table and self._table[-1] is NOTHING:
                return NOTHING
            self._cells += len(self._order)
            if self._cells > TABLE_CELLS:
                return Cost(value=ENDLESS)
            self._extend()
        return self._table[depth]

    def _extend(self) -> None:
        depth, above = len(self._table), self._last
        costs: list[Cost] = [NOTHING] * len(self._nodes)
        for index in self._order:
            node = self._nodes[index]
            cost = Cost(node.everywhere)
            if depth == 0:
                cost.add(node.here)
            else:
                cost.add(Cost(node.compared, node.compared * STEPS_PER_POSITION))
                if depth == 1:
                    cost.add(node.below)
                for target in node.down:
                    cost.add(above[target])
                for group in node.down_one_of:
                    cost.add(_most(above[target] for target in group))
            for target in node.same:
                cost.add(costs[target])
            for group in node.same_one_of:
                cost.add(_most(costs[target] for target in group))
            if node.factor != 1.0:
                cost.add(cost, node.factor - 1)
            costs[index] = cost
        self._last = costs
        self._order = tuple(index for index in self._order if costs[index])  # no other reaches the next level
        self._table.append(costs[0] if self._order else NOTHING)


def _edges(node: Node) -> set[int]:
    return {*node.same, *(target for group in node.same_one_of for target in group)}


def _most(costs: Iterable[Cost]) -> Cost:
    highest = Cost()
    for cost in costs:
        highest.raise_to(cost)
    return highest


def _subschemas(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Everything in `schema` that is a subschema by its place."""
    for keyword, value in schema.items():
        if keyword in LISTS and isinstance(value, list):
            yield from value
        elif keyword in MAPS and isinstance(value, dict):
            yield from value.values()
        elif keyword in SUBSCHEMA:
            yield value


class _Graph:
    """The subschemas that can be reached from the root, which is node 0."""

    def __init__(self, schema: Any, max_nodes: int, *, formats: bool) -> None:
        self.nodes: list[Node] = []
        self._root = schema
        self._max_nodes = max_nodes
        self.size = 0.0
        """Of all patterns, in positions."""
        self._index: dict[int, int] = {}
        self._resources: dict[str, Any] = {}
        self._anchors: dict[tuple[str, str], Any] = {}
        self._dynamic: dict[str, list[Any]] = {}
        self._base: dict[int, str] = {}
        self._unplain = ""
        """An identifier that the validator may write otherwise; no matter while nothing has to be told apart by it."""
        self._dialect = _dialect(schema) or DIALECT
        self._id = "id" if "draft-04" in self._dialect else "$id"
        self._asserts_content = any(draft in self._dialect for draft in ASSERT_CONTENT)
        self._asserts_formats = formats
        self._resources[""] = schema
        self._survey(schema, "")
        if any(resource is not schema for resource in self._resources.values()):
            self._need_plain()
        self._waiting: list[tuple[int, Any]] = []
        self._node(schema)
        while self._waiting:
            index, subschema = self._waiting.pop()
            self._fill(self.nodes[index], subschema)

    # -- identifiers --------------------------------------------------------------------------------------------------

    def _survey(self, root: Any, base: str) -> None:
        """Find all identifiers and anchors, and the base of each subschema."""
        waiting = [(root, base)]
        while waiting:
            schema, base = waiting.pop()
            if isinstance(schema, dict):
                base = self._survey_one(schema, base)
                self._base[id(schema)] = base
                waiting += ((item, base) for item in _subschemas(schema))

    def _survey_one(self, schema: dict[str, Any], base: str) -> str:
        if _dialect(schema) not in (None, self._dialect):
            raise UnusableSchema("a subschema has another $schema, by which its identifiers and references differ")
        own = schema.get(self._id)
        if isinstance(own, str):
            if "$ref" in schema and schema is not self._root:
                raise UnusableSchema(f"{self._id} and $ref stand side by side, which drafts read differently")
            uri, _, fragment = own.partition("#")
            if fragment:
                self._anchor(base, fragment, schema)
            if uri:
                try:
                    base = urljoin(base, uri)
                except ValueError:
                    raise UnusableSchema(f"the {self._id} {own!r} is no URI") from None
                if _PLAIN.fullmatch(base) is None:
                    self._unplain = own
                if base in self._resources:
                    raise UnusableSchema(f"two subschemas have the {self._id} {own!r}")
                self._resources[base] = schema
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := schema.get(keyword), str):
                self._anchor(base, name, schema)
                if keyword == "$dynamicAnchor":
                    self._dynamic.setdefault(name, []).append(schema)
        if schema.get("$recursiveAnchor") is True:
            self._dynamic.setdefault("", []).append(schema)
        return base

    def _need_plain(self) -> None:
        if self._unplain:
            raise UnusableSchema(f"the {self._id} {self._unplain!r} can be read in several ways; write it plainly")

    def _anchor(self, base: str, name: str, schema: Any) -> None:
        if self._anchors.setdefault((base, name), schema) is not schema:
            raise UnusableSchema(f"two subschemas have the anchor {name!r}")

    def _resolve(self, reference: str, base: str) -> Any:
        """The subschema that a reference leads to; `None` for a meta-schema.

        Raises:
            UnusableSchema: It leads nowhere, or out of the schema: nothing is ever fetched.
        """
        if reference.startswith("#"):
            uri, fragment = base, reference[1:]
        else:
            self._need_plain()
            uri, fragment = urldefrag(urljoin(base, reference))
        if uri not in self._resources:
            if uri.startswith(META_SCHEMAS):
                return None
            raise UnusableSchema(f"$ref {reference!r} leads out of the schema, and nothing is fetched")
        if fragment and not fragment.startswith("/"):
            if (uri, fragment) not in self._anchors:
                raise UnusableSchema(f"$ref {reference!r} leads nowhere")
            return self._anchors[uri, fragment]
        return self._follow(self._resources[uri], fragment, reference, uri)

    def _follow(self, found: Any, fragment: str, reference: str, base: str) -> Any:
        for part in unquote(fragment).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise UnusableSchema(f"$ref {reference!r} leads nowhere") from None
            if isinstance(found, dict) and isinstance(found.get(self._id), str):
                raise UnusableSchema(f"$ref {reference!r} leads into a subschema with an {self._id} of its own")
        if isinstance(found, dict) and id(found) not in self._base:  # it lies where no subschema is by its place
            known = len(self._resources) + len(self._anchors)
            self._survey(found, base)
            if len(self._resources) + len(self._anchors) > known:
                raise UnusableSchema(f"$ref {reference!r} leads to identifiers that a validator may not see")
        return found

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _node(self, schema: Any) -> int:
        index = self._index.get(id(schema)) if isinstance(schema, dict) else None
        if index is None:
            index = len(self.nodes)
            if index >= self._max_nodes:
                raise UnusableSchema(f"it has more than {self._max_nodes} subschemas")
            self.nodes.append(Node())
            if isinstance(schema, dict):
                self._index[id(schema)] = index
            self._waiting.append((index, schema))
        return index

    def _fill(self, node: Node, schema: Any) -> None:
        node.here.value = 1.0
        if not isinstance(schema, dict):
            return
        if AGAIN & schema.keys():
            node.factor = AGAIN_FACTOR
        base = self._base.get(id(schema), "")
        for keyword, value in schema.items():
            node.here.value += _weight(keyword, value)
            node.here.character += self._reading(keyword, value)
            if keyword in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                self._refer(node, keyword, value, base)
            elif keyword == "uniqueItems" and value is True:
                node.compared = 2.0
            elif keyword == "pattern" and isinstance(value, str):
                node.here.add(self._pattern(value))
            elif keyword in IN_PLACE or (keyword in DOWN and not isinstance(value, list)):
                (node.same if keyword in IN_PLACE else node.down).append(self._node(value))
            elif keyword in ("prefixItems", "items") and isinstance(value, list):
                node.down_one_of.append([self._node(item) for item in value])
            elif keyword in IN_PLACE_LISTS and isinstance(value, list):
                node.same += [self._node(item) for item in value]
            elif keyword in IN_PLACE_MAPS and isinstance(value, dict):
                node.same += [self._node(item) for item in value.values() if isinstance(item, dict | bool)]
            elif keyword == "properties" and isinstance(value, dict):
                node.down_one_of.append([self._node(item) for item in value.values()])
            elif keyword == "patternProperties" and isinstance(value, dict):
                for pattern, item in value.items():
                    node.below.add(self._pattern(pattern), 2.0)  # again for additionalProperties
                    node.down.append(self._node(item))

    def _reading(self, keyword: str, value: Any) -> float:
        """The steps for each character of a keyword that reads strings, patterns aside."""
        if keyword == "format":
            return FORMAT_STEPS * self._asserts_formats
        if keyword == "contentEncoding":
            return DECODING_STEPS * self._asserts_content
        return PARSING_STEPS * (self._asserts_content and keyword == "contentMediaType" and value == "application/json")

    def _refer(self, node: Node, keyword: str, reference: str, base: str) -> None:
        target = self._resolve(reference, base)
        if target is None:
            node.everywhere += META_STEPS
            return
        name = "" if keyword == "$recursiveRef" else reference.rpartition("#")[2]
        others = self._dynamic.get(name, []) if keyword != "$ref" else []
        if others:
            node.same_one_of.append([self._node(item) for item in (target, *others)])
        else:
            node.same.append(self._node(target))

    def _pattern(self, pattern: str) -> Cost:
        positions, size, backtracks = cost_of(pattern)
        self.size += size
        if self.size > MAX_SIZE:
            raise UnusableSchema("its patterns are too large once their repeats are written out")
        per_character = positions * STEPS_PER_POSITION
        if not backtracks:
            return Cost(1.0, per_character)
        # Short ones run from a table, long ones state by state.
        return Cost(1.0, per_character, STEPS_PER_LOOK if positions <= 64 else per_character / 2)


def _weight(keyword: str, value: Any) -> float:
    """The steps of a keyword by itself: as many as it has things to look up or compare."""
    if keyword in ("enum", "const"):
        return _size(value)
    if keyword in ("required", "properties", "dependentRequired", "dependencies", "type") and isinstance(
        value, list | dict
    ):
        if keyword == "properties":
            return 1.0 + min(len(value), 16)  # many are looked up by the instance's keys
        lists = value.values() if isinstance(value, dict) else ()
        return 1.0 + len(value) + sum(len(item) for item in lists if isinstance(item, list))
    if keyword == "multipleOf":
        return MULTIPLE_STEPS if isinstance(value, int) else FRACTION_STEPS
    return 1.0


def _dialect(schema: Any) -> str | None:
    """What `$schema` says."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    return named.rstrip("#") if isinstance(named, str) else None


def _size(value: Any) -> float:
    """How many values a JSON value holds."""
    count, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        count += 1
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return float(count)
