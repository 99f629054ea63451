"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plughost_validation import ValidationConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host answers as the README shows; the operation finds no tool to refuse."""
    with README.followed(tmp_path) as reader:
        checked = json.loads(reader.type("plughost ctl validation check"))
    assert (checked["compiled"], checked["refused_tools"]) == (1, {})


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    assert set(README.rows("Config")) == set(ValidationConfig.model_fields)
