"""`UpstreamPlugin`: brings the upstreams of the configuration to the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from plughost import HealthCheck, HostConfig, MCPPlugin, Operation, PlughostError, PluginConfig, hookimpl

from plughost_upstream._config import UpstreamConfig, UpstreamTable, upstreams
from plughost_upstream._guard import Guard
from plughost_upstream._provider import UpstreamProvider


class Selection(PluginConfig):
    """Which upstreams an operation is about."""

    provider: str | None = None
    """Name of the provider; all, if absent."""


class UpstreamPlugin(MCPPlugin[UpstreamConfig]):
    """Serves the `[providers.NAME]` tables with `command` or `url`."""

    provider_config = UpstreamTable

    def __init__(self, config: UpstreamConfig | None = None, *, name: str = "upstream", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self._guard = Guard()
        self._known: WeakSet[UpstreamProvider] = WeakSet()
        self._current: list[UpstreamProvider] = []

    async def reconfigure(self, config: UpstreamConfig) -> bool:
        """Take it in place: upstreams that it changes become new providers, the others stay."""
        self.config = config
        return True

    async def unregister(self) -> None:
        """Let go of everything. The host has stopped the providers."""
        self._current = []
        await self._guard.close()

    @hookimpl
    def plughost_providers(self, config: HostConfig) -> Iterable[UpstreamProvider]:
        """The same object for an upstream that did not change, so that a reload leaves it alone."""
        self._current = []
        for upstream in upstreams(config, self.config, version=self.version):
            provider = next((item for item in self._known if item.upstream == upstream and not item.stopped), None)
            if provider is None:
                provider = UpstreamProvider(upstream, self._guard)
                self._known.add(provider)
            self._current.append(provider)
        return self._current

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck(item.name, item.check) for item in self._current]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation(
                "show", self.show, parameters=Selection, summary="State, revision and sessions of each upstream."
            ),
            Operation(
                "reconnect",
                self.reconnect,
                parameters=Selection,
                changes=True,
                summary="Connect to upstreams anew, now.",
            ),
        ]

    async def show(self, selection: Selection) -> list[dict[str, Any]]:
        """The state of the upstreams, as JSON."""
        return [item.describe() for item in self._selected(selection)]

    async def reconnect(self, selection: Selection) -> list[str]:
        """Connect to the upstreams anew; returns their names."""
        chosen = self._selected(selection)
        for item in chosen:
            item.reconnect()
        return [item.name for item in chosen]

    def _selected(self, selection: Selection) -> list[UpstreamProvider]:
        if selection.provider is None:
            return list(self._current)
        chosen = [item for item in self._current if item.name == selection.provider]
        if not chosen:
            names = ", ".join(item.name for item in self._current) or "none"
            raise PlughostError(f"there is no upstream {selection.provider!r}; there are: {names}")
        return chosen
