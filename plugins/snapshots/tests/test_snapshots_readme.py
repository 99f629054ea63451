"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_snapshots import SnapshotsConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A client calls, and the commands print what the README shows."""
    README.followed(tmp_path).leave()


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    table = README.section("Config")
    assert [name for name in SnapshotsConfig.model_fields if f"`{name}`" not in table] == []
