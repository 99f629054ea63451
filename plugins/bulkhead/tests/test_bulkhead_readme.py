"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from plughost_bulkhead import BulkheadConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host refuses the fourth of four calls at once, as the README shows."""
    README.followed(tmp_path).leave()


def test_keys_are_listed() -> None:
    """Each key of the config stands in the table, and the longer example is valid."""
    assert set(README.rows("Config")) == set(BulkheadConfig.model_fields)
    BulkheadConfig.model_validate(tomllib.loads(README.blocks("toml")[1])["plugins"]["bulkhead"])
