"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_metrics import MetricsConfig, OTLPConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host shows the line that the README prints, after the call that it makes; the commands write files."""
    README.followed(tmp_path).leave()
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("plughost.json", "rules.yml"))


def test_keys_are_listed() -> None:
    """Each key of the config has its row."""
    assert set(README.rows("Config")) == {*MetricsConfig.model_fields, *OTLPConfig.model_fields}
