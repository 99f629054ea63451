"""What every plugin owes, owed by this one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plughost import MCPPlugin
from plughost_bus import BusPlugin
from plughost_testing import PluginContract

HOOK = {"url": "https://hooks.example/a?token=1", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}


class TestBus(PluginContract):
    plugin_class = BusPlugin
    config = {"webhooks": {"ops": HOOK}}
    other_config = {"relay": ["breaker.*"], "max_watched": 5, "webhooks": {"other": HOOK}}
    invalid = {
        "url": ["memory", "http://localhost"],
        "webhooks": [
            {"ops": {**HOOK, "url": "http://hooks.example/"}},
            {"ops": {**HOOK, "url": "http://127.0.0.1/"}},
            {"ops": {**HOOK, "url": "http://127.0.0.1.example/", "allow_loopback": True}},
            {"ops": {**HOOK, "url": "https://user:pw@hooks.example/"}},
            {"ops": {**HOOK, "url": "ftp://hooks.example/"}},
            {"ops": {**HOOK, "secrets": []}},
            {"ops": {**HOOK, "secrets": ["whsec_c2hvcnQ="]}},
            {"ops": {**HOOK, "secrets": ["whsec_no base64!"]}},
            {"ops": {**HOOK, "attempts": 0}},
        ],
    }
    free = ("dead_letters",)
    has_middleware = False
    handles = ()
    fails = None
    keeps_state = True
    has_backend = True
    degrades = True

    @contextmanager
    def broken_backend(self, plugin: MCPPlugin[Any]) -> Iterator[None]:
        """In memory nothing can break; with Redis see test_bus_redis.py."""
        logging.getLogger("test").warning("the backend is in memory")
        yield

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """Who it is."""
        assert isinstance(plugin, BusPlugin)
        return plugin.bus.replica
