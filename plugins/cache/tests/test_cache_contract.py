"""What every plugin owes, owed by this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from plughost import MCPPlugin
from plughost_cache import CachePlugin
from plughost_cache._sqlite import SQLiteStore
from plughost_testing import PluginContract

CACHED = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read", "tools/call")


class TestCache(PluginContract):
    plugin_class = CachePlugin
    config = {"tools": {"echo": "1h"}, "lists": "1m", "default_ttl": "1m"}
    other_config = {"tools": {"*": "1h"}, "max_entries": 500}
    handles = CACHED
    reuses = True
    fails = "open"
    keeps_state = True
    has_backend = True
    degrades = True

    async def test_cancellation_anywhere_is_survived(self) -> None:
        """With answers that are too old when they come: those that are kept wait nowhere."""
        self.config = {**self.config, "tools": {"echo": "500ms"}}  # type: ignore[misc]  # for this test alone
        await super().test_cancellation_anywhere_is_survived()

    @contextmanager
    def broken_backend(self, plugin: MCPPlugin[Any]) -> Iterator[None]:
        """There is none that could fail here: looking itself does."""
        assert isinstance(plugin, CachePlugin)
        plugin.rules._generation, healthy = _fails, plugin.rules._generation  # type: ignore[assignment]  # whatever it looks at
        yield
        plugin.rules._generation = healthy

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What it keeps."""
        assert isinstance(plugin, CachePlugin)
        return len(plugin.memory), plugin.memory.bytes, plugin.stats.as_dict()


def _fails() -> object:
    raise RuntimeError("it cannot look")


class TestCacheThatKeepsNothing(PluginContract):
    """With the defaults nothing of a server without advice is kept, and everything passes untouched."""

    plugin_class = CachePlugin
    config = {}
    other_config = {"max_bytes": "1MiB"}
    handles = ()
    fails = "open"
    keeps_state = True
    has_backend = True
    degrades = True
    broken_backend = TestCache.broken_backend
    state_of = TestCache.state_of


class TestCacheWithFile(TestCache):
    """The same with a file as second level."""

    @pytest.fixture(autouse=True)
    def folder(self) -> Iterator[None]:
        with TemporaryDirectory() as folder:
            self.file = Path(folder) / "cache.db"
            self.other_config = {**TestCache.other_config, "url": f"sqlite:///{self.file}"}  # type: ignore[misc]
            yield

    def make(self, plugin_class: type[MCPPlugin[Any]] | None = None, **changes: Any) -> MCPPlugin[Any]:
        return super().make(plugin_class, url=f"sqlite:///{self.file}", **changes)

    @contextmanager
    def broken_backend(self, plugin: MCPPlugin[Any]) -> Iterator[None]:
        """The disk fails."""
        assert isinstance(plugin, CachePlugin)
        assert plugin.shared is not None
        store = plugin.shared.store
        assert isinstance(store, SQLiteStore)
        store._work, healthy = _disk_fails, store._work  # type: ignore[method-assign,assignment]  # what the disk does
        yield
        store._work = healthy  # type: ignore[method-assign]  # and no longer does


def _disk_fails(_: object) -> Any:
    raise sqlite3.OperationalError("disk I/O error")
