"""What every plugin owes, owed by this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plughost import MCPPlugin
from plughost_events import EventsPlugin
from plughost_testing import PluginContract


class TestEvents(PluginContract):
    plugin_class = EventsPlugin
    config = {"url": "memory://", "durability": "sync"}
    other_config = {"url": "memory://", "durability": "sync", "aggregate": "tool"}
    invalid = {
        "url": ["redis://localhost", "sqlite://file.db", "sqlite:///", "memory://x"],
        "chain_key": ["short"],
        "keep": [0],
        "queue": [0],
    }
    free = ("archive",)
    handles = ()
    has_backend = True
    keeps_state = True

    @contextmanager
    def broken_backend(self, plugin: MCPPlugin[Any]) -> Iterator[None]:
        """A database that refuses every statement."""
        assert isinstance(plugin, EventsPlugin)
        database = plugin.store.writer._worker.database
        kept, database._connection = database._connection, _Refusing()
        try:
            yield
        finally:
            database._connection = kept

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """The store with all that is in it."""
        assert isinstance(plugin, EventsPlugin)
        return plugin.store


class _Refusing:
    def execute(self, *_: object) -> None:
        raise sqlite3.OperationalError("the contract broke it")

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass
