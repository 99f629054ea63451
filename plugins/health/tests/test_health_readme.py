"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_health import HealthConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host and the command both say what the README says."""
    README.followed(tmp_path).leave()


def test_keys_are_listed() -> None:
    """Each key of the config has its row in the table."""
    assert README.rows("Config") == list(HealthConfig.model_fields)
