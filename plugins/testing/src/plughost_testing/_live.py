"""Hosts behind real transports: HTTP on a port of this machine, stdio in a process."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import tomlkit
import uvicorn
from mcp import StdioServerParameters
from plughost import Host

STOP_LIMIT = 5
"""Seconds that connections get to end."""


@dataclass(frozen=True)
class LiveHost:
    """A host that listens: the object, and the URL of its MCP endpoint."""

    host: Host
    url: str


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the test runner's signals stay its own


@asynccontextmanager
async def serve_http(host: Host) -> AsyncIterator[LiveHost]:
    """Serve a running host over HTTP, on a free port, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        host.app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=STOP_LIMIT
    )
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        await server.ready.wait()
        try:
            yield LiveHost(host, f"http://127.0.0.1:{listener.getsockname()[1]}{host.config.host.path}")
        finally:
            host.end_streams()
            server.should_exit = True


def stdio_command(config: Mapping[str, Any], folder: Path) -> StdioServerParameters:
    """What starts a host of this configuration as a process that speaks on stdin and stdout.

    The file is written into `folder`, which relative paths of the configuration start from.
    """
    path = folder / "plughost.toml"
    host = {"control": False, **config.get("host", {})}
    path.write_text(tomlkit.dumps({**config, "host": host}), "utf-8")
    arguments = ["-m", "plughost", "serve", "--stdio", "--config", str(path)]
    return StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ), cwd=folder)
