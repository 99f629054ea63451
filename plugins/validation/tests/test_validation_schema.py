"""A compiled schema says the same as the reference, and says it in words."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no types of its own
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plughost_validation._schema import MAX_VIOLATIONS, CompiledSchema
from plughost_validation._shape import Bounds, measure
from plughost_validation._work import UnusableSchema

BOUNDS = Bounds(size=10**6, depth=50, string=10**5, items=10**4)
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def check(schema: Any, value: Any, **options: Any) -> list[tuple[str, str, str]]:
    """Pointer, rule and words of each violation."""
    found = CompiledSchema(schema, **options).violations(value, measure(value, BOUNDS))
    return [(item.pointer, item.rule, item.words) for item in found]


def accepts(schema: Any, value: Any, **options: Any) -> bool:
    return not check(schema, value, **options)


# ---------------------------------------------------------------------------------------------------------------------
# Against the reference
# ---------------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "ab"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.5])
SCALARS = st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "a", "ab", "é", "aaaa"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
COUNTS = st.integers(0, 3)
ASSERTIONS: dict[str, st.SearchStrategy[Any]] = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "const": VALUES,
    "minimum": NUMBERS,
    "maximum": NUMBERS,
    "exclusiveMinimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "multipleOf": st.sampled_from([1, 2, 0.5]),
    "minLength": COUNTS,
    "maxLength": COUNTS,
    "pattern": st.sampled_from(["^a", "b$", "^(?!b)", "a{2}"]),
    "minItems": COUNTS,
    "maxItems": COUNTS,
    "uniqueItems": st.booleans(),
    "minProperties": COUNTS,
    "maxProperties": COUNTS,
    "required": st.lists(NAMES, max_size=2, unique=True),
    "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=1),
}


def applicators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = dict.fromkeys(
        ("not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames"), inner
    )
    unevaluated = dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), inner)
    several = dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), st.lists(inner, min_size=1, max_size=3))
    named = dict.fromkeys(("properties", "dependentSchemas"), st.dictionaries(NAMES, inner, max_size=3))
    patterns = {"patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=2)}
    return keywords({**one, **unevaluated, **several, **named, **patterns, **ASSERTIONS})


def keywords(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: known[name] for name in chosen}))


SCHEMAS = st.recursive(
    st.booleans() | keywords(ASSERTIONS) | st.just({"$ref": "#/$defs/shared"}), applicators, max_leaves=5
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(SCHEMAS, keywords(ASSERTIONS), VALUES)
def test_agrees_with_the_reference(schema: Any, shared: Any, value: Any) -> None:
    """Whatever the schema and the value, both implementations agree; and what is refused is explained."""
    whole = {"$defs": {"shared": shared}, "allOf": [schema]}
    expected = jsonschema.Draft202012Validator(whole).is_valid(value)
    found = check(whole, value)
    assert (not found) == expected
    assert len(found) <= MAX_VIOLATIONS
    for pointer, rule, words in found:
        assert pointer == "" or pointer.startswith("/")
        assert rule
        assert words
        assert "\n" not in words


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"$schema": DRAFT_7, "items": [{"type": "string"}], "additionalItems": False}, ["a"], ["a", 1]),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
        ({"$schema": DRAFT_7, "dependencies": {"a": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}, 2, 3),
        ({"$schema": "http://json-schema.org/draft-06/schema#", "exclusiveMaximum": 3}, 2, 3),
        ({"$schema": DRAFT_2019, "items": [{"const": 1}]}, [1], [2]),
        (
            {"$recursiveAnchor": True, "$schema": DRAFT_2019, "items": {"$recursiveRef": "#"}, "type": "array"},
            [[]],
            [1],
        ),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "dependentRequired": {"a": ["b"]}}, {}, {"a": 1}),
        ({"$defs": {"t": {"$anchor": "text", "type": "string"}}, "$ref": "#text"}, "a", 1),
        (
            {
                "$id": "https://example.com/tree",
                "$dynamicAnchor": "node",
                "items": {"$dynamicRef": "#node"},
                "type": "array",
            },
            [[[]]],
            [[1]],
        ),
        ({"$id": "https://example.com/s", "$ref": "t", "$defs": {"t": {"$id": "t", "type": "string"}}}, "a", 1),
        ({"$schema": DRAFT_7, "$ref": "#a", "definitions": {"x": {"$id": "#a", "type": "string"}}}, "a", 1),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {"type": "string"}, {"type": "text"}),
        ({"$schema": DRAFT_7, "$ref": DRAFT_7}, {"type": "string"}, {"type": "text"}),
        ({"$ref": "#/$defs/a~1b~0c%20d", "$defs": {"a/b~c d": {"type": "string"}}}, "a", 1),
        (True, 1, None),
        ({"contentEncoding": "base64"}, "not base64!", None),
    ],
)
def test_drafts_and_references(schema: Any, good: Any, bad: Any) -> None:
    """`$schema` says which draft it is, 2020-12 if absent; anchors, identifiers and dynamic references work."""
    assert accepts(schema, good)
    assert bad is None or not accepts(schema, bad)


def test_types_are_not_coerced() -> None:
    """A string of digits is no number, and a number no boolean; a number without a fraction is an integer."""
    assert not accepts({"type": "integer"}, "1")
    assert not accepts({"type": "boolean"}, 1)
    assert not accepts({"type": "integer"}, True)
    assert accepts({"type": "integer"}, 1.0)


def test_formats() -> None:
    """`format` is a note, as in 2020-12, in every draft; unless it is asked for."""
    for schema in ({"format": "email"}, {"$schema": DRAFT_7, "format": "email"}):
        assert accepts(schema, "nobody")
        assert check(schema, "nobody", formats=True) == [("", "format", "must have the format 'email'")]
    assert accepts({"format": "unheard-of"}, "x", formats=True)


@pytest.mark.parametrize("value", [{"\ud800": 1}, {"a": "\ud800"}, ["\ud800"]])
def test_half_a_surrogate_pair(value: Any) -> None:
    """No text that can be sent, so no JSON; told like any other violation, and no failure of the plugin (G1)."""
    schema = {"additionalProperties": {"type": "integer"}, "items": {"pattern": "a"}}
    assert not CompiledSchema(schema).accepts_small(value)
    assert [(rule, words) for _, rule, words in check(schema, value)] == [
        ("json", "must be JSON, whose strings hold no half of a surrogate pair")
    ]


def test_panics(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic of the validator is an error of the call or the schema, and ends nothing else (G1)."""

    class Panic(BaseException):
        pass

    def panic(*_: Any, **__: Any) -> Any:
        raise Panic("index out of bounds")

    compiled = CompiledSchema({})
    monkeypatch.setattr(compiled, "_is_valid", panic)
    with pytest.raises(RuntimeError, match="nobody foresaw"):
        compiled.accepts_small({})
    with pytest.raises(RuntimeError, match="nobody foresaw"):
        compiled.violations({}, [(1, 0, 0)])
    monkeypatch.setattr("jsonschema_rs.validator_for", panic)
    with pytest.raises(UnusableSchema, match="cannot be compiled: index out of bounds"):
        CompiledSchema({})


def test_nothing_is_fetched() -> None:
    """No reference makes the process open a connection: not a `$ref`, not a `$schema` (P6, S1)."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps({"type": "string"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/schema"
            for schema in (
                {"$ref": url},
                {"properties": {"a": {"$ref": f"{url}#/a"}}},
                {"$schema": url},
                {"$id": url, "$ref": "other"},
                {"$dynamicRef": url},
                {"x": {"$ref": url}, "$ref": "#/x"},
            ):
                with pytest.raises(UnusableSchema):
                    CompiledSchema(schema)
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


# ---------------------------------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "string"}, 1, "must be a string"),
        ({"type": ["integer", "null"]}, "a", "must be null or an integer"),
        ({"required": ["title"]}, {}, "needs the property 'title'"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, "must not have 'b'"),
        ({"unevaluatedProperties": False}, {"b": 1}, "must not have 'b'"),
        ({"enum": ["low", "high"]}, "x", 'must be one of "low", "high"'),
        ({"enum": ["x" * 150, "y" * 150]}, "x", "must be one of the 2 values in the schema"),
        ({"const": 7}, 8, "must be 7"),
        ({"const": "x" * 300}, 8, "must be the one value in the schema"),
        ({"minimum": 1}, 0, "must be at least 1"),
        ({"maximum": 1.5}, 2, "must be at most 1.5"),
        ({"exclusiveMinimum": 1}, 1, "must be more than 1"),
        ({"exclusiveMaximum": 1}, 1, "must be less than 1"),
        ({"multipleOf": 2}, 1, "must be a multiple of 2"),
        ({"minLength": 3}, "a", "must be at least 3 characters long"),
        ({"maxLength": 3}, "aaaa", "must be at most 3 characters long"),
        ({"pattern": "^a"}, "b", 'must match the pattern "^a"'),
        ({"minItems": 2}, [], "must have at least 2 items"),
        ({"maxItems": 0}, [1], "must have at most 0 items"),
        ({"minProperties": 1}, {}, "must have at least 1 properties"),
        ({"maxProperties": 0}, {"a": 1}, "must have at most 0 properties"),
        ({"uniqueItems": True}, [1, 1], "must not hold the same item twice"),
        ({"contains": {"const": 1}}, [2], "does not hold as many items as must match `contains`"),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "has a property whose name must be at most 1 characters long"),
        ({"not": {}}, 1, "must not match what the schema excludes with `not`"),
        (False, 1, "must not be there"),
        ({"unevaluatedItems": False}, [1], "must not have more items than the schema knows"),
        ({"$schema": DRAFT_7, "items": [{}], "additionalItems": False}, [1, 2], "must have at most 1 items"),
        ({"oneOf": [{}, {}]}, 1, "matches more than one of the alternatives, and must match one"),
        (
            {"anyOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]},
            {},
            "matches none of the 2 alternatives; the closest: needs the property 'a'",
        ),
        (
            {"anyOf": [{"type": "null"}, {"anyOf": [{"type": "string"}, {"properties": {"a": {"type": "string"}}}]}]},
            {"a": 1},
            "matches none of the 2 alternatives; the closest: /a must be a string",
        ),
        (
            {"pattern": r"^(a|b|ab)*\1c$"},
            "ab" * 60,
            "takes too long to be matched against its pattern; send less",
        ),
    ],
)
def test_words(schema: Any, value: Any, words: str) -> None:
    """Each rule has its words, with what the schema demands."""
    assert check(schema, value)[0][2] == words


def test_pointers() -> None:
    """Each violation says where, and no more than a few are told."""
    schema = {"properties": {"a/b": {"items": {"type": "string"}}}}
    value = {"a/b": ["x", *range(20)]}
    assert [where for where, _, _ in check(schema, value)] == [f"/a~1b/{n}" for n in range(1, 6)]


@settings(max_examples=50, deadline=None)
@given(keywords(ASSERTIONS), st.sampled_from(["secret-4711", ["secret-4711"], {"a": "secret-4711"}, 47114711]))
def test_values_are_never_repeated(schema: Any, value: Any) -> None:
    """No message holds a value that was checked, whatever rule it breaks (G6)."""
    for schemas in (schema, {"anyOf": [schema, schema]}, {"items": schema, "additionalProperties": schema}):
        for _, _, words in check(schemas, value):
            assert "4711" not in words


def test_messages_are_short() -> None:
    """However long what a schema demands is, a message is not."""
    schema = {"required": ["n" * 5000], "additionalProperties": False}
    value = {"k" * 5000: 1, **{f"{n}": 1 for n in range(100)}}
    for _, _, words in check(schema, value):
        assert len(words) <= 300


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ([], "neither an object nor a boolean"),
        ("{}", "neither an object nor a boolean"),
        ({"type": "text"}, "/type is no valid schema"),
        ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern is no valid schema"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "Unknown meta-schema"),
        ({"$schema": "https://example.com/mine"}, "Unknown meta-schema"),
        ({"$schema": 7}, "no valid schema"),
        ({"properties": 7}, "/properties is no valid schema"),
        ({"enum": [float("nan")]}, "must be a finite number"),
        ({"const": (1, 2)}, "must be JSON"),
        ({"title": "x" * 200_000}, "at most 100000 characters"),
    ],
)
def test_malformed_schemas(schema: Any, why: str) -> None:
    """A schema that cannot be used is refused with the place and the reason, on one line."""
    with pytest.raises(UnusableSchema, match=why) as caught:
        CompiledSchema(schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
