"""The lines of plughost-logs against the field set that Elastic publishes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from installation import PINS, node, node_package
from plughost_logs._elastic import FIELDS, OWN_FIELDS, index_template
from plughost_logs._line import ECS_VERSION

pytestmark = pytest.mark.real

VALUES = {
    "event.kind": {"event"},
    "event.category": {"api"},
    "event.type": {"error", "access"},
    "event.outcome": {"success", "failure", "unknown"},
}
"""What the plugin writes into fields that take only some values."""


@pytest.fixture(scope="module")
def published() -> Mapping[str, Any]:
    """Field → its definition in the schema."""
    ((name, version),) = PINS["schemas"]["node"].items()
    folder = node_package(name, version)
    script = f"console.log(JSON.stringify(require({json.dumps(str(folder))}).EcsFlat))"
    printed = subprocess.run([str(node()), "-e", script], check=True, capture_output=True, text=True).stdout
    fields: Mapping[str, Any] = json.loads(printed)
    return fields


def test_the_version_is_the_published_one() -> None:
    """Lines say which release of the schema they follow."""
    assert PINS["schemas"]["node"] == {"@elastic/ecs": ECS_VERSION}


def test_each_field_is_in_the_schema_with_its_type(published: Mapping[str, Any]) -> None:
    """Names and Elasticsearch types; text may be one that only matches."""
    assert {name: kind for name, kind in FIELDS.items() if published[name]["type"] != kind} == {}


def test_fields_of_our_own_collide_with_none_of_the_schema(published: Mapping[str, Any]) -> None:
    """Neither as a field nor as an object that a later release could fill."""
    taken = {name.partition(".")[0] for name in published}
    assert {name for name in OWN_FIELDS if name.partition(".")[0] in taken} == set()


@pytest.mark.parametrize("field", VALUES)
def test_only_values_that_the_schema_allows_are_written(published: Mapping[str, Any], field: str) -> None:
    """The schema lists what these fields may hold."""
    assert VALUES[field] <= {item["name"] for item in published[field]["allowed_values"]}


def test_the_index_template_has_every_field() -> None:
    """Each with the type of its table."""
    found = {}

    def walk(properties: Mapping[str, Any], prefix: str) -> None:
        for key, value in properties.items():
            if "properties" in value:
                walk(value["properties"], f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value["type"]

    walk(index_template()["template"]["mappings"]["properties"], "")
    assert found == {**FIELDS, **OWN_FIELDS}
