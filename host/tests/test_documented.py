"""Fields described by the docstrings below them."""

from __future__ import annotations

from plughost import PluginConfig
from plughost._documented import field_docs
from pydantic import Field


class Inner(PluginConfig):
    depth: int = 1
    """How deep."""


class Outer(PluginConfig):
    """The whole."""

    inner: Inner = Inner()
    """What is inside."""
    limit: int = Field(default=1, alias="the-limit")
    """Most of it."""
    named: int = Field(default=1, description="Said in place.")
    """Not this one."""
    silent: int = 0


class Derived(Outer):
    limit: int = 2
    """Most of it, anew."""


def test_a_schema_has_the_docstrings_of_its_fields() -> None:
    """Nested models and aliases too; a description in place counts first."""
    schema = Outer.model_json_schema()
    assert {key: value.get("description") for key, value in schema["properties"].items()} == {
        "inner": "What is inside.",
        "the-limit": "Most of it.",
        "named": "Said in place.",
        "silent": None,
    }
    assert schema["$defs"]["Inner"]["properties"]["depth"]["description"] == "How deep."


def test_docstrings_are_inherited_field_by_field() -> None:
    """A derived model describes what it declares anew, and has the rest from its base."""
    assert field_docs(Derived) == {"inner": "What is inside.", "limit": "Most of it, anew.", "named": "Said in place."}


def test_a_model_without_source_has_no_descriptions() -> None:
    """What is typed into an interpreter is a model all the same."""
    namespace: dict[str, type[PluginConfig]] = {}
    exec("class Typed(Base):\n    key: int = 0\n    'Lost.'\n", {"Base": PluginConfig}, namespace)
    assert field_docs(namespace["Typed"]) == {}
