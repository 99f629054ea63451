"""Hosts made of exactly what a test names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plughost import Clock, Host, HostConfig, InProcessProvider, MCPPlugin, Provider, create_host, hookimpl

NAME = "testing-kit"
"""Instance that brings the providers and the clock of a test; no call passes it."""


class _Kit(MCPPlugin):
    def __init__(self, providers: Iterable[Provider], clock: Clock | None) -> None:
        super().__init__(name=NAME)
        self._providers = list(providers)
        self._clock = clock
        self.provides = (Clock,) if clock is not None else ()  # type: ignore[misc]  # only some kits bring a clock

    async def register(self, host: Host) -> None:
        if self._clock is not None:
            host.provide(Clock, self._clock)  # type: ignore[type-abstract]  # shared under its protocol

    @hookimpl
    def plughost_providers(self) -> list[Provider]:
        return self._providers


def make_host(
    *plugins: MCPPlugin[Any],
    providers: Iterable[object] = (),
    clock: Clock | None = None,
    config: HostConfig | Mapping[str, Any] | None = None,
    trace: bool = False,
) -> Host:
    """A host of exactly these plugins and providers, to be entered. Nothing is discovered.

    `providers` are `Provider` objects, or SDK servers, which are then called by their own names. `clock` becomes the
    host's. `config` is for `[host]` keys.
    """
    found = [_as_provider(item) for item in providers]
    return create_host(config, plugins=[_Kit(found, clock), *plugins], trace=trace)


def _as_provider(item: Any) -> Provider:
    if hasattr(item, "request") and hasattr(item, "prefix"):
        provider: Provider = item
        return provider
    return InProcessProvider(getattr(item, "name", type(item).__name__), item)
