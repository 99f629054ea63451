"""The README's example runs, on a real `plughost serve`."""

from __future__ import annotations

from pathlib import Path

import pytest
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """The plugin of the README changes what its tool answers, until it is disabled."""
    README.followed(tmp_path).leave()
