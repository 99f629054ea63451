"""What tests of the kit share."""

from __future__ import annotations

from typing import Any

import pytest
from plughost_testing import VirtualClock


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend
