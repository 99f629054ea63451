"""The ways to reach one and the same everything server: by itself, and through the host in each of its forms."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
def in_process(folder: Path) -> Iterator[str]:
    """The host, with the server in its own process."""
    with _host(folder, 'python = "mcp_everything_server.server:mcp"') as url:
        yield url


@contextmanager
def http_upstream(folder: Path) -> Iterator[str]:
    """The host, with the server behind it over Streamable HTTP."""
    with direct(folder) as upstream, _host(folder, f'url = "{upstream}"') as url:
        yield url


@contextmanager
def stdio_upstream(folder: Path) -> Iterator[str]:
    """The host, with the server as its child over stdio."""
    command = [sys.executable, str(Path(__file__).with_name("everything_stdio.py")), str(everything_server())]
    with _host(folder, f"command = {json.dumps(command)}") as url:
        yield url


@contextmanager
def every_plugin(folder: Path) -> Iterator[str]:
    """The host with the server in its own process, and every plugin that ships on."""
    with _host(folder, 'python = "mcp_everything_server.server:mcp"', "[plugins.errors]") as url:
        yield url


@contextmanager
def _host(folder: Path, provider: str, plugins: str = "") -> Iterator[str]:
    port = free_port()
    config = folder / "plughost.toml"
    config.write_text(
        f'[host]\nlisten = "127.0.0.1:{port}"\n\n[providers.everything]\n{provider}\n\n{plugins}\n', "utf-8"
    )
    command = (sys.executable, "-m", "plughost", "serve", "--config", str(config))
    environment = {"PYTHONPATH": str(everything_server())}
    with serving(command, port, log=folder / "host.log", environment=environment) as url:
        yield url


THROUGH: dict[str, Leg] = {
    "in process": in_process,
    "HTTP upstream": http_upstream,
    "stdio upstream": stdio_upstream,
    "in process, every plugin": every_plugin,
}
"""The legs that are compared with `direct`."""
