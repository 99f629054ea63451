"""The work of a validation is bounded before it is done."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plughost_validation._schema import SMALL, CompiledSchema
from plughost_validation._shape import Bounds, OverLimit, is_small, measure
from plughost_validation._work import UnusableSchema, Work

DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
BOUNDS = Bounds(size=2**20, depth=32, string=2**18, items=10_000)
GENEROUS = 3.0
"""Seconds of CPU that nothing here may take: all should take a tenth of it at most, and machines differ."""


@contextmanager
def bounded(seconds: float = GENEROUS) -> Iterator[None]:
    begin = time.process_time()
    yield
    assert time.process_time() - begin < seconds


def attempt(schema: Any, instance: Any, **options: Any) -> str:
    """What becomes of a schema and an instance, however hostile, within the time."""
    with bounded():
        try:
            compiled = CompiledSchema(schema, **options)
        except UnusableSchema:
            return "schema refused"
    with bounded():
        try:
            levels = measure(instance, BOUNDS)
        except OverLimit:
            return "instance too large"
        found = compiled.violations(instance, levels)
    if not found:
        return "valid"
    return found[0].rule if found[0].rule in ("max_steps", "schema") else "explained"


def doubling(steps: int, keyword: str = "anyOf") -> dict[str, Any]:
    """References that double the work with each step."""
    twice = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(steps)}
    return {"$defs": {**twice, f"d{steps}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def unevaluated(depth: int) -> dict[str, Any]:
    """Each `unevaluatedProperties` evaluates again what it surrounds."""
    schema: dict[str, Any] = {"properties": {"a": {"type": "string"}}, "unevaluatedProperties": False}
    for _ in range(depth):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


EXPRESSION = {
    "$defs": {
        "expression": {
            "anyOf": [
                {"type": "object", "properties": {"in": {"$ref": "#/$defs/expression"}, "op": {"const": "not"}}},
                {"type": "object", "properties": {"in": {"$ref": "#/$defs/expression"}, "op": {"const": "abs"}}},
                {"type": "integer"},
            ]
        }
    },
    "$ref": "#/$defs/expression",
}
"""A union of recursive types, as honest servers have it: each level of the instance doubles the work."""


def nested(depth: int, leaf: Any = "no expression") -> Any:
    for _ in range(depth):
        leaf = {"in": leaf, "op": "not"}
    return leaf


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


def chain(length: int) -> dict[str, Any]:
    links = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(length)}
    return {"$defs": {**links, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def ring(length: int) -> dict[str, Any]:
    """A circle of references, each a step down."""
    links = {f"d{n}": {"properties": {"in": {"$ref": f"#/$defs/d{(n + 1) % length}"}}} for n in range(length)}
    return {"$defs": links, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "instance", "outcome"),
    [
        pytest.param(doubling(5), 1, "explained", id="doubling-5"),
        pytest.param(doubling(30), 1, "schema refused", id="doubling-30"),
        pytest.param(doubling(30, "oneOf"), 1, "schema refused", id="doubling-oneOf"),
        pytest.param(doubling(30, "allOf"), "a", "schema refused", id="doubling-allOf"),
        pytest.param(doubling(1500), 1, "schema refused", id="doubling-1500"),
        pytest.param(unevaluated(3), {"a": "x"}, "valid", id="unevaluated-3"),
        pytest.param(unevaluated(18), {"a": "x"}, "schema refused", id="unevaluated-18"),
        pytest.param(EXPRESSION, nested(3), "explained", id="union-3"),
        pytest.param(EXPRESSION, nested(30, 1), "max_steps", id="union-30"),
        pytest.param(EXPRESSION, nested(100_0), "instance too large", id="union-1000"),
        pytest.param(deep(49), {}, "valid", id="schema-deep"),
        pytest.param(deep(3000), {}, "schema refused", id="schema-too-deep"),
        pytest.param(chain(500), "a", "valid", id="chain-500"),
        pytest.param(ring(100), nested(30), "valid", id="ring-100"),
        pytest.param(ring(1500), nested(30), "max_steps", id="ring-1500"),
        pytest.param({"$ref": "#"}, 1, "schema refused", id="loop"),
        pytest.param(
            {
                "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}},
                "$ref": "#/$defs/a",
            },
            1,
            "schema refused",
            id="loop-of-two",
        ),
        pytest.param({"$dynamicAnchor": "x", "$dynamicRef": "#x"}, 1, "schema refused", id="dynamic-loop"),
        pytest.param({"enum": list(range(20_000))}, 1, "schema refused", id="too-many-values"),
        pytest.param({"items": {"enum": [[n] * 50 for n in range(100)]}}, [[1] * 51] * 250, "max_steps", id="enum"),
        pytest.param({"contains": {"const": [1] * 2000}}, [[1] * 1999 + [2]] * 90, "schema", id="const"),
        pytest.param({"uniqueItems": True}, [{"a": n, "b": [n]} for n in range(10_000)], "valid", id="unique-objects"),
        pytest.param(
            {"uniqueItems": True}, [2**63 + n for n in range(9000)], "instance too large", id="unique-integers"
        ),
        pytest.param({"items": {"allOf": [{"multipleOf": 1e-300}] * 40}}, [1e300] * 9000, "max_steps", id="fractions"),
        pytest.param({"items": {"allOf": [{"multipleOf": 2}] * 40}}, [1e300] * 9000, "max_steps", id="multiples"),
        pytest.param(
            {"$schema": DRAFT_7, "items": {"allOf": [{"contentMediaType": "application/json"}] * 3000}},
            [f"[{'1,' * 100_000}1]"],
            "max_steps",
            id="content",
        ),
        pytest.param(
            {"patternProperties": {f"^{n}x*y": {} for n in range(1000)}},
            {f"p{n}": 1 for n in range(1000)},
            "max_steps",
            id="key-patterns",
        ),
    ],
)
def test_hostile_schemas_and_instances(schema: Any, instance: Any, outcome: str) -> None:
    """What would take for ever is refused, and what takes long is refused or quick (P6)."""
    assert attempt(schema, instance) == outcome


LETTERS = "".join("ab"[n * n // 7 % 2] for n in range(2**17))


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$",
        "^(a|aa)+$",
        "(a|b|ab)*c",
        "([ab]*)*c",
        "[ab]*a[ab]{100}c",
        "[ab]*a[ab]{5000}c",
        "(a{1000}){1000}",
        "((((a{9}){9}){9}){9}){9}",
        "(x{0,999}y){0,200}",
        r"(\p{L}{50}){50}",
        r"^(?=(a+)+x)a",
        "(?=.*x)a",
        "(?=[ab]*a[ab]{200}x)a",
        r"(a*)\1x",
        r"(a|b|ab)*\1c",
        r"^(?:(?=.*x)a|b)*c",
        r"^(?=a)(a|aa)+\1$",
        "(" * 5000,
        "[" * 5000,
        "(?:a?){50}a{50}",
    ],
)
@pytest.mark.parametrize("length", [100, 4000, 2**17])
def test_regex_bombs(pattern: str, length: int) -> None:
    """No pattern takes more than its share of time, whatever the string: not one, nor many, nor for names (P6)."""
    outcomes = {
        attempt({"pattern": pattern}, "a" * length),
        attempt({"pattern": pattern}, LETTERS[:length]),
        attempt({"items": {"pattern": pattern}}, [LETTERS[n : n + length // 100] for n in range(100)]),
        attempt({"patternProperties": {pattern: {}}}, {LETTERS[:length]: 1}),
    }
    assert outcomes <= {"valid", "explained", "schema", "max_steps", "schema refused"}


def test_patterns_that_servers_use() -> None:
    """Patterns with lookahead, as schema generators write them, work; in strings as long as they are for."""
    email = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
    schema = {"items": {"pattern": email}}
    assert attempt(schema, [f"alice.{n}@example.com" for n in range(1000)]) == "valid"
    assert attempt(schema, ["alice..b@example.com"]) == "explained"
    assert attempt({"pattern": r"^[\p{L}\d]{1,64}$"}, "Zoë") == "valid"


def test_memory() -> None:
    """Neither a refused schema nor a refused instance takes memory to speak of."""
    instance = nested(30)
    tracemalloc.start()
    try:
        for schema in (doubling(1000), unevaluated(40), EXPRESSION, ring(100)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            attempt(schema, instance)
            assert tracemalloc.get_traced_memory()[1] - before < 30 * 2**20
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------------------------
# The bound holds, whatever the schema
# ---------------------------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
references = st.sampled_from([f"#/$defs/{name}" for name in NAMES]).map(lambda target: {"$ref": target})
leaves: st.SearchStrategy[Any] = references | st.sampled_from(
    [
        True,
        {"type": "string"},
        {"type": "integer"},
        {"enum": ["x", [1] * 20]},
        {"const": {"a": [1] * 30}},
        {"pattern": "(?=.*x)a"},
        {"pattern": "[ab]*a[ab]{40}c"},
        {"propertyNames": {"pattern": "^(?=.*a)a"}},
        {"uniqueItems": True},
        {"required": ["a", "b"]},
    ]
)


def applicators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.fixed_dictionaries(dict.fromkeys(NAMES, inner))
    one = (
        "not",
        "items",
        "additionalProperties",
        "contains",
        "unevaluatedProperties",
        "unevaluatedItems",
        "if",
        "then",
    )
    return st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(one, inner),
            **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
            **dict.fromkeys(("properties", "dependentSchemas"), named),
            "patternProperties": st.fixed_dictionaries({"^a": inner, "^(?!x)[bc]{1,30}": inner}),
        },
    ).map(lambda schema: dict(list(schema.items())[:3]))


subschemas = st.recursive(leaves, applicators, max_leaves=5)
schemas = st.tuples(applicators(subschemas), *[subschemas] * len(NAMES)).map(
    lambda parts: {**parts[0], "$defs": dict(zip(NAMES, parts[1:], strict=True))}
)
instances = st.recursive(
    st.sampled_from(["a" * 200, "ab" * 100, "x", 1, None]),
    lambda inner: (
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
        | st.lists(inner, max_size=3)
        | inner.map(lambda value: [value] * 5)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(schemas, instances)
def test_steps_bound_the_time(schema: dict[str, Any], instance: Any) -> None:
    """No validation takes longer than its steps allow, at a microsecond each, ten times what they should take (P6)."""
    try:
        compiled = CompiledSchema(schema, max_steps=10**5)
    except UnusableSchema:
        return
    levels = measure(instance, BOUNDS)
    steps = compiled._work.steps(levels)
    small = BOUNDS.small(SMALL)
    if isinstance(instance, dict | list) and is_small(instance, small) and compiled._small_is_cheap:
        assert steps <= 10**5
    with bounded(0.2 + steps * 1e-6 if steps < 10**6 else GENEROUS):
        compiled.violations(instance, levels)


@pytest.mark.parametrize(
    ("schema", "steps"),
    [
        ({"type": "string"}, 2),
        ({"properties": {"a": {"type": "string"}, "b": True}}, 4 + 2),
        ({"items": {"type": "string"}}, 2 + 2),
        ({"allOf": [{"type": "string"}, {"type": "string"}]}, 2 + 2 * 2),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": ["string", "null"]}}}, 3 + 4),
        ({"uniqueItems": True}, 2 + 2 + 2),
    ],
)
def test_steps_are_counted(schema: Any, steps: float) -> None:
    """A step for each keyword and each name it looks up, at the value and one level below."""
    assert Work(schema, max_nodes=100).steps([(1, 0, 0), (1, 0, 0), (1, 0, 0)]) == steps


def test_content_is_read_where_it_is_asserted() -> None:
    """Strings that hold other documents cost what parsing them does, by the drafts that demand it."""
    note, asserted = ({"$schema": draft, "contentMediaType": "application/json"} for draft in (DRAFT_2020, DRAFT_7))
    assert Work(note, max_nodes=100).steps([(1, 1000, 1000)]) < 10
    assert Work(asserted, max_nodes=100).steps([(1, 1000, 1000)]) > 1000


def test_formats_cost_where_they_are_checked() -> None:
    """Holding a long string against a format is work, too."""
    levels = [(1, 1000, 1000)]
    assert Work({"format": "regex"}, max_nodes=100).steps(levels) < 10
    assert Work({"format": "regex"}, max_nodes=100, formats=True).steps(levels) > 400


HARMLESS = {"type": "integer"}


def costly(identifier: str) -> dict[str, Any]:
    doubles = doubling(30)
    return {"$id": identifier, "$defs": doubles["$defs"], "allOf": [{"$ref": "#/$defs/d0"}]}


OF_DRAFT_4 = {"$schema": "http://json-schema.org/draft-04/schema#", "id": "http://example.com/inner"}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(
            {
                "definitions": {"d0": HARMLESS},
                "allOf": [
                    {
                        **OF_DRAFT_4,
                        "definitions": {"d0": doubling(30)["$defs"]["d0"]},
                        "allOf": [{"$ref": "#/definitions/d0"}],
                    }
                ],
            },
            id="dialect",
        ),
        *(
            pytest.param(
                {
                    "$defs": {"a": {"$id": plain, **HARMLESS}, "b": costly(odd)},
                    "allOf": [{"$ref": plain}],
                },
                id=odd,
            )
            for plain, odd in (
                ("http://example.com/a", "HTTP://example.com/a"),
                ("http://example.com/a", "http://example.com:80/a"),
                ("http://example.com/a", "http://example.com/%61"),
                ("http://example.com/a", "http://example.com/./a"),
                ("http://example.com/b/../a", "http://example.com/a"),
                ("urn:a", "URN:a"),
                ("a", "json-schema:///a"),
                ("a", "/a"),
            )
        ),
        pytest.param({"$id": "/a", "$defs": {"b": HARMLESS}, "allOf": [{"$ref": "a#/$defs/b"}]}, id="reference"),
        pytest.param({"$id": "HTTP" + DRAFT_7[4:], "not": {"$ref": DRAFT_7}}, id="meta-schema"),
    ],
)
def test_identifiers_mean_one_thing(schema: Any) -> None:
    """A reference that the validator could follow elsewhere than the count of its work did is refused (P6)."""
    with pytest.raises(UnusableSchema, match=r"another \$schema|read in several ways"):
        CompiledSchema(schema)


@pytest.mark.parametrize(
    "identifier",
    [
        "/schemas/x",
        "./a.json",
        "mcp://srv/tool",
        "tool:add",
        "tag:a,2020:b",
        "http://localhost:3000/x.json",
        "https://Example.com/x",
        "HTTPS://example.com/x",
        "https://example.com/x?v=1",
        "https://example.com/@s/x",
        "http://JSON-schema.org/draft-07/schema",
    ],
)
def test_an_identifier_alone_is_written_as_one_likes(identifier: str) -> None:
    """References to places and anchors of the one resource need no identifier, so any will do."""
    there = {"a": {"type": "string"}, "b": {"$anchor": "b", "type": "string"}}
    fields = {"a": {"$ref": "#/$defs/a"}, "b": {"$ref": "#b"}, "c": {"$ref": "#"}}
    schema = {"$id": identifier, "$defs": there, "properties": fields}
    assert attempt(schema, {"a": "x", "b": "x", "c": {"a": "x"}}) == "valid"
    assert {attempt(schema, value) for value in ({"a": 1}, {"b": 1}, {"c": {"a": 1}})} == {"explained"}


def test_steps_grow_with_the_instance() -> None:
    """More values cost more, a string costs what its patterns do, and levels that no subschema reaches cost nothing."""
    work = Work({"items": {"pattern": "^[ab]{9}$"}}, max_nodes=100)
    few, many = work.steps([(1, 0, 0), (10, 0, 0)]), work.steps([(1, 0, 0), (20, 0, 0)])
    assert many - 2 == pytest.approx(2 * (few - 2))
    assert work.steps([(1, 0, 0), (10, 1000, 100)]) > few + 100
    assert work.steps([(1, 0, 0), (10, 0, 0), (10**9, 0, 0)]) == few


def test_keys_cost_what_their_patterns_do() -> None:
    """A key is matched against each pattern of the object it is in, character by character."""
    work = Work({"patternProperties": {"^a{50}": True}}, max_nodes=100)
    assert work.steps([(1, 0, 0), (1, 1000, 1000)]) > work.steps([(1, 0, 0), (1, 0, 0)]) + 1000


def test_patterns_have_a_size_together() -> None:
    """A few large patterns are compiled, many are refused before the first: compiling them takes time and memory."""
    patterns = [{"pattern": r"^[\p{L}\d]{1,64}$"}] * 20
    CompiledSchema({"prefixItems": patterns[:2]})
    with bounded(), pytest.raises(UnusableSchema, match="too large once their repeats are written out"):
        CompiledSchema({"prefixItems": [dict(pattern) for pattern in patterns]})


REFUSED: dict[str, tuple[Any, str]] = {
    "http": ({"$ref": "http://127.0.0.1:9/x"}, "nothing is fetched"),
    "file": ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
    "relative": ({"$ref": "other.json"}, "nothing is fetched"),
    "nowhere": ({"$ref": "#/$defs/a"}, "leads nowhere"),
    "no anchor": ({"$ref": "#a"}, "leads nowhere"),
    "no uri": ({"$id": "http://a/", "$defs": {"a": {"$id": "http://[::1"}}}, "is no URI"),
    "two ids": ({"$defs": {"a": {"$id": "x"}, "b": {"$id": "x"}}}, "two subschemas have"),
    "two anchors": ({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, "two subschemas have"),
    "id beside ref": ({"$defs": {"a": {"$id": "x", "$ref": "#/$defs/b"}, "b": {}}}, "side by side"),
    "into a resource": ({"$ref": "#/$defs/a", "$defs": {"a": {"$id": "x"}}}, "of its own"),
    "hidden ids": ({"$ref": "#/x", "x": {"not": {"$id": "y"}}}, "may not see"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_references_that_are_refused(name: str) -> None:
    """A reference that leads out, nowhere, or that validators read differently, makes the schema unusable (P6)."""
    schema, why = REFUSED[name]
    with pytest.raises(UnusableSchema, match=why):
        CompiledSchema(schema)


def test_only_what_is_reached_counts() -> None:
    """Definitions that nothing refers to cost no steps."""
    schema = {**doubling(40), "$ref": "#/$defs/d40"}
    assert attempt(schema, "a") == "valid"
