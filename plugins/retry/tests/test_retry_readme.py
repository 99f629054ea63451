"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_retry import HedgeConfig, RetryConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A client of a served host prints what the README says."""
    README.followed(tmp_path).leave()


def test_keys_are_listed() -> None:
    """Each key of the config has its row."""
    assert set(README.rows("Config")) == {
        *(RetryConfig.model_fields.keys() - {"hedge"}),
        *(f"hedge.{key}" for key in HedgeConfig.model_fields),
    }
