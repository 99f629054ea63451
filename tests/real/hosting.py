"""The host in front of one upstream, started as a user starts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import free_port, serving

HOST = (sys.executable, "-m", "plughost")


@contextmanager
def served(upstream: str, folder: Path) -> Iterator[str]:
    """The URL of `plughost serve`; `upstream` is the line of the provider's table that says what it reaches."""
    port = free_port()
    config = folder / "plughost.toml"
    config.write_text(f'[host]\nlisten = "127.0.0.1:{port}"\n\n[providers.upstream]\n{upstream}\n', "utf-8")
    with serving((*HOST, "serve", "--config", str(config)), port, log=folder / "host.log") as url:
        yield url


def run(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command that fronts a stdio server with `plughost run`, from stdio to stdio."""
    return *HOST, "run", "--", *command
