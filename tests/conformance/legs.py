"""The ways to reach one and the same everything server: by itself, and through the host in each of its forms."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from installation import everything_server
from serving import free_port, serving

Leg = Callable[[Path], AbstractContextManager[str]]
"""Serves until the block ends, with its files in the given folder, and gives the URL."""


@contextmanager
def direct(folder: Path) -> Iterator[str]:
    """The everything server alone, over Streamable HTTP with its event store."""
    port = free_port()
    command = (sys.executable, "-m", "mcp_everything_server", "--port", str(port))
    environment = {"PYTHONPATH": str(everything_server())}
    with serving(command, port, log=folder / "everything.log", environment=environment) as url:
        yield url


@contextmanager
def in_process(folder: Path, plugins: str = "") -> Iterator[str]:
    """The host, with the server in its own process."""
    with _host(folder, 'python = "mcp_everything_server.server:mcp"', plugins) as url:
        yield url


@contextmanager
def http_upstream(folder: Path, plugins: str = "") -> Iterator[str]:
    """The host, with the server behind it over Streamable HTTP."""
    with direct(folder) as upstream, _host(folder, f'url = "{upstream}"', plugins) as url:
        yield url


@contextmanager
def stdio_upstream(folder: Path, plugins: str = "") -> Iterator[str]:
    """The host, with the server as its child over stdio."""
    command = [sys.executable, str(Path(__file__).with_name("everything_stdio.py")), str(everything_server())]
    with _host(folder, f"command = {json.dumps(command)}", plugins) as url:
        yield url


@contextmanager
def _host(folder: Path, provider: str, plugins: str) -> Iterator[str]:
    port = free_port()
    config = folder / "plughost.toml"
    config.write_text(
        f'[host]\nlisten = "127.0.0.1:{port}"\n\n[providers.everything]\n{provider}\n\n{plugins}\n', "utf-8"
    )
    command = (sys.executable, "-m", "plughost", "serve", "--config", str(config))
    environment = {"PYTHONPATH": str(everything_server())}
    with serving(command, port, log=folder / "host.log", environment=environment) as url:
        yield url


EVERY_PLUGIN = """
[plugins.errors]
[plugins.tracing]
endpoint = "http://127.0.0.1:9/v1/traces"
[plugins.metrics]
[plugins.logs]
[plugins.health]
[plugins.shutdown]
[plugins.rate-limit]
limit = "1000000/minute"
[plugins.cache]
[plugins.dedup]
[plugins.retry]
[plugins.circuit-breaker]
[plugins.timeout]
[plugins.bulkhead]
[plugins.pool]
[plugins.validation]
[plugins.pinning]
[plugins.encryption]
keys = ["rqZ7v0n2Wk9sLx4cPb1mTg8yHd5fJu3aQe6iOw"]
[plugins.events]
url = "memory://"
[plugins.snapshots]
[plugins.bus]
"""
"""All plugins that ship, but those that ask who calls; nobody listens where traces go."""

THROUGH: dict[str, Leg] = {
    "in process": in_process,
    "HTTP upstream": http_upstream,
    "stdio upstream": stdio_upstream,
    "in process, plugins": partial(in_process, plugins=EVERY_PLUGIN),
    "HTTP upstream, plugins": partial(http_upstream, plugins=EVERY_PLUGIN),
    "stdio upstream, plugins": partial(stdio_upstream, plugins=EVERY_PLUGIN),
}
"""The legs that are compared with `direct`."""


def cannot_have(leg: str) -> frozenset[str]:
    """The checks, by id, that a leg cannot have.

    Over stdio there is no response stream that a server could close for its client to take up again: nothing arrives
    that the host could hand on. The suite makes a remark of it there, and no check.
    """
    return frozenset({"server-sse-disconnect-resume"} if leg.startswith("stdio") else ())
