"""What all suites have in common."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The host runs on asyncio. Suites on virtual time have a fixture of this name that returns the clock's."""
    return "asyncio"
