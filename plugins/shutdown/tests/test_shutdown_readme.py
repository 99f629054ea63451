"""The README's table holds what there is."""

from __future__ import annotations

from plughost_shutdown import ShutdownConfig
from readmes import Readme


def test_keys_are_listed() -> None:
    """Each key of the config has its row in the table."""
    assert Readme(__file__).rows("Config") == list(ShutdownConfig.model_fields)
