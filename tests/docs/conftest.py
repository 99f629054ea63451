"""Serves the documentation's examples."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import serving

from docs.examples import ENVIRONMENT, EXAMPLES, SCRIPTS, Serve, Served, move_listener


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Runs `plughost serve` for a copy of an example, on a free port, until the test is over."""
    with ExitStack() as stack:

        def start(example: str) -> Served:
            config = shutil.copytree(EXAMPLES / example, tmp_path / example) / "plughost.toml"
            port = move_listener(config)
            command = [str(SCRIPTS / "plughost"), "serve", "--config", str(config)]
            log = tmp_path / f"{example}.log"
            return Served(stack.enter_context(serving(command, port, log=log, environment=ENVIRONMENT)), config)

        yield start
