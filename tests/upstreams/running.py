"""Upstreams that run: providers as the host runs them, and HTTP servers that can be killed."""

from __future__ import annotations

import multiprocessing
import runpy
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio.abc import TaskGroup, TaskStatus
from plughost import HostConfig, ProviderEvent, load_config
from plughost_upstream import UpstreamConfig, UpstreamPlugin, UpstreamProvider

_HERE = Path(__file__).parent
LEGACY_STDIO = (sys.executable, "-S", str(_HERE / "legacy_stdio.py"))
SDK_STDIO = (sys.executable, str(_HERE / "sdk_server.py"))
DEADLINE = 20.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing announces."""
    with anyio.fail_after(DEADLINE):
        while not condition():  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.01)


class Events:
    """What a provider told the host, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[ProviderEvent] = []
        self._news = anyio.Event()

    def __call__(self, event: ProviderEvent) -> None:
        self.seen.append(event)
        self._news.set()

    async def wait(self, wanted: ProviderEvent | type[Any]) -> ProviderEvent:
        """The first such event, or one of such a type, that was not waited for yet."""
        with anyio.fail_after(DEADLINE):
            while True:
                for event in self.seen:
                    if event == wanted or type(event) is wanted:
                        self.seen.remove(event)
                        return event
                await self._news.wait()
                self._news = anyio.Event()


class Started:
    """A provider that runs in a task of its own, as the host runs it."""

    def __init__(self, provider: UpstreamProvider) -> None:
        self.provider = provider
        self.events = Events()
        self._stop = anyio.Event()
        self._stopped = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        await self.provider.start(self.events)
        task_status.started()
        await self._stop.wait()
        await self.provider.stop()
        self._stopped.set()

    async def stop(self) -> None:
        self._stop.set()
        await self._stopped.wait()


class Upstreams:
    """Makes providers of a configuration, and stops them in the end."""

    def __init__(self) -> None:
        self.plugin = UpstreamPlugin(UpstreamConfig(retry_min=0.05, retry_max=0.2), version="9")
        self.started: list[Started] = []
        self.tasks: TaskGroup | None = None

    @staticmethod
    def config(**tables: Any) -> HostConfig:
        return load_config({"providers": tables})

    async def start(self, **tables: Any) -> list[Started]:
        assert self.tasks is not None
        found = []
        for provider in self.plugin.plughost_providers(self.config(**tables)):
            one = Started(provider)
            await self.tasks.start(one.run)
            found.append(one)
        self.started += found
        return found

    async def one(self, **table: Any) -> Started:
        return (await self.start(up=table))[0]


class HTTPServer:
    """An SDK server on HTTP, in a process of its own, that can be killed and started again on the same port."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._options = options
        self._process: BaseProcess | None = None

    def start(self) -> None:
        self._process = _FORKS.Process(target=_serve, args=["--port", str(self.port), *self._options], daemon=True)
        self._process.start()
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            assert self._process.is_alive()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.01)
        raise AssertionError("the server does not listen")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def seen(self) -> list[dict[str, str]]:
        """The headers of every request so far."""
        found: list[dict[str, str]] = httpx2.get(f"http://127.0.0.1:{self.port}/seen").json()
        return found


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["mcp.server.mcpserver", "uvicorn", __name__])
"""Has imported what a server needs, which takes longer than most tests of one."""


def _serve(*arguments: str) -> None:
    sys.argv = [SDK_STDIO[1], *arguments]
    runpy.run_path(SDK_STDIO[1], run_name="__main__")
