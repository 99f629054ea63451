"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from plughost import GuardConfig
from plughost_circuit_breaker import CircuitBreakerConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host refuses the calls that the README says; and `show` says why."""
    with README.followed(tmp_path) as reader:
        shown = json.loads(reader.type("plughost ctl circuit-breaker show"))
    states = {item["tool"]: item["state"] for item in shown["breakers"]}
    assert (states["forecast"], states[None]) == ("open", "closed")


def test_keys_are_listed() -> None:
    """Each key of the config has a row, with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|", README.section("Config"), re.MULTILINE))
    own = {
        name: field for name, field in CircuitBreakerConfig.model_fields.items() if name not in GuardConfig.model_fields
    }
    assert rows.keys() == own.keys()
    for name, field in own.items():
        shown = rows[name].strip("`").removesuffix("s").strip('"')
        default = json.dumps(field.default).strip('"') if name == "per" else str(field.default)
        default = {"None": "\N{EN DASH}", "False": "false"}.get(default, default).removesuffix(".0")
        assert shown == default, name


def test_operations_are_listed() -> None:
    """Each operation has a row."""
    rows = re.findall(r"^\| `([\w-]+) ?[^`]*=", README.section("Operations"), re.MULTILINE)
    assert sorted(rows) == ["close", "disable", "force-open", "observe", "reset", "show"]
