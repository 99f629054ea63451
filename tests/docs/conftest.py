"""Serves the documentation's examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from docs.examples import Serve, served


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves a copy of an example until the test is over."""
    with ExitStack() as stack:
        yield lambda example: stack.enter_context(served(example, tmp_path))
