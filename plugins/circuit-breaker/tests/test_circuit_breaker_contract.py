"""What every plugin owes, owed by this one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plughost import MCPPlugin
from plughost_circuit_breaker import CircuitBreakerPlugin
from plughost_testing import PluginContract


class TestCircuitBreaker(PluginContract):
    plugin_class = CircuitBreakerPlugin
    config = {"window": "30s", "slow_call": "10m"}
    other_config = {"window": "2m", "minimum_calls": 5, "failure_rate": 0.25, "slow_call": "off"}
    invalid = {
        "per": [[], ["tenant"], "provider"],
        "failure_rate": [0, 1.1],
        "slow_rate": [0, 1.1],
        "slow_call": ["soon"],
        "window": ["0s"],
        "window_calls": [9],
        "open": ["0s", "3m"],
        "jitter": [1],
        "url": ["memory", "http://localhost"],
    }
    keeps_state = True
    has_backend = True
    degrades = True

    @contextmanager
    def broken_backend(self, plugin: MCPPlugin[Any]) -> Iterator[None]:
        """In memory nothing can break; with Redis see test_circuit_breaker_redis.py."""
        logging.getLogger("test").warning("the backend is in memory")
        yield

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What its breakers counted, and where they stand."""
        assert isinstance(plugin, CircuitBreakerPlugin)
        now = plugin._now()
        return {breaker.key: (breaker.state, breaker.mode, breaker.counts(now)) for breaker in plugin._board}
