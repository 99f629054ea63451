"""What every plugin owes, owed by this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plughost import MCPPlugin
from plughost_rate_limit import RateLimitPlugin
from plughost_rate_limit._memory import MemoryStore
from plughost_redis import BackendUnavailable
from plughost_testing import PluginContract


class TestRateLimit(PluginContract):
    """G1: with its counts unknown it refuses; or lets pass, counted, where it fails open."""

    plugin_class = RateLimitPlugin
    config = {"limit": ["1000/second", "5000/minute"]}
    other_config = {"limit": ["1000/second", "6000/minute"], "advertise": True}
    invalid = {
        "limit": ["100", "0/minute", "1/fortnight", "2000000/1s", "1/32d", [], [7], ["1/minute", "2/60s"], 100],
        "algorithm": ["token-bucket"],
        "burst": [0, 5],
        "per": ["principal", ["session"], ["tool", "tool"]],
        "cost": [{"a": -1}, {"a": 1001}, {"a": "b"}],
        "methods": [[], ["call"], "tools/call"],
        "url": ["http://here", "redis://"],
    }
    handles = ("tools/call", "prompts/get", "resources/read", "completion/complete")
    keeps_state = True
    has_backend = True

    @contextmanager
    def broken_backend(self, plugin: MCPPlugin[Any]) -> Iterator[None]:
        """The store does what it does while the server is away."""
        assert isinstance(plugin, RateLimitPlugin)
        store = plugin._store

        class Away(MemoryStore):
            async def take(self, identity: int, cost: int) -> Any:
                raise BackendUnavailable("it is away")

        plugin._store = Away.__new__(Away)
        try:
            yield
        finally:
            plugin._store = store

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What it has counted."""
        assert isinstance(plugin, RateLimitPlugin)
        assert isinstance(plugin._store, MemoryStore)
        return [shard for table in plugin._store._tables.values() for shard in table.shards if shard]


class TestGCRA(TestRateLimit):
    config = {"limit": "1000/second", "algorithm": "gcra"}
    other_config = {"limit": "2000/second", "algorithm": "gcra"}
    invalid = {"burst": [0, -1]}
