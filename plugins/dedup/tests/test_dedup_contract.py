"""What every plugin owes, owed by this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plughost import MCPPlugin
from plughost_dedup import DedupPlugin
from plughost_dedup._replicas import Replicas
from plughost_redis import RedisBackend, StoreURL
from plughost_testing import PluginContract
from redis.exceptions import ResponseError


class Refusing(RedisBackend):
    """A server that refuses every command, as a replica that became read-only does."""

    async def run(self, work: object, **limits: float | None) -> Any:
        raise ResponseError("READONLY You can't write against a read only replica.")


class TestDedup(PluginContract):
    plugin_class = DedupPlugin
    config = {"tools": ["echo"], "window": 0}
    other_config = {"tools": ["*"], "window": 1, "max_entries": 5}
    reuses = True
    keeps_state = True
    has_backend = True
    degrades = True

    @contextmanager
    def broken_backend(self, plugin: MCPPlugin[Any]) -> Iterator[None]:
        """A server that refuses stands where there is none."""
        assert isinstance(plugin, DedupPlugin)
        url = StoreURL("redis://127.0.0.1:1")
        backend = Refusing(url, name=self.name, host=plugin.host, prefix="plughost:dedup")
        plugin.replicas = Replicas(backend, lease=1, clock=plugin.host.clock, seal=lambda: None, on_clear=lambda: None)
        yield
        plugin.replicas = None

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What it executed and kept."""
        assert isinstance(plugin, DedupPlugin)
        return plugin.flights.started, len(plugin.window), len(plugin.idempotent)
