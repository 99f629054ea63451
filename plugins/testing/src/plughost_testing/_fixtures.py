"""What the fixtures give to a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.client import ConnectMode
from plughost import Clock, Host, HostConfig, MCPPlugin

from plughost_testing._holding import Holder
from plughost_testing._hosting import make_host
from plughost_testing._live import LiveHost, serve_http, stdio_command


class HostFactory:
    """Builds hosts that run until the test ends: `await host(plugin, ..., providers=[...])`."""

    def __init__(self, holder: Holder, clock: Clock | None) -> None:
        self._holder = holder
        self._clock = clock

    async def __call__(
        self,
        *plugins: MCPPlugin[Any],
        providers: Iterable[object] = (),
        config: HostConfig | Mapping[str, Any] | None = None,
    ) -> Host:
        """A running host of exactly these plugins and providers."""
        return await self._holder.enter(make_host(*plugins, providers=providers, clock=self._clock, config=config))


class LiveHostFactory:
    """Builds hosts behind real transports that run until the test ends."""

    def __init__(self, holder: Holder, hosts: HostFactory, folder: Path) -> None:
        self._holder = holder
        self._hosts = hosts
        self._folder = folder

    async def __call__(
        self,
        *plugins: MCPPlugin[Any],
        providers: Iterable[object] = (),
        config: HostConfig | Mapping[str, Any] | None = None,
    ) -> LiveHost:
        """A running host of exactly these plugins and providers, served over HTTP on a free port."""
        return await self._holder.enter(serve_http(await self._hosts(*plugins, providers=providers, config=config)))

    def stdio(self, config: Mapping[str, Any], *, folder: Path | None = None) -> StdioServerParameters:
        """The command of a host that serves stdio as a process; the client that connects to it starts it.

        A process shares no objects, so the configuration names providers and plugins as its TOML would; relative paths
        start from `folder`.
        """
        return stdio_command(config, folder or self._folder)


class ClientFactory:
    """Connects SDK clients of one protocol era that stay until the test ends: `await client(host)`."""

    def __init__(self, holder: Holder, mode: ConnectMode) -> None:
        self._holder = holder
        self.mode = mode

    async def __call__(self, target: Host | LiveHost | StdioServerParameters, **options: Any) -> Client:
        """A connected client; `options` are those of the SDK's `Client`. It caches nothing unless told to."""
        server = target.front if isinstance(target, Host) else target.url if isinstance(target, LiveHost) else target
        return await self._holder.enter(Client(server, **{"mode": self.mode, "cache": None, **options}))
