"""One test on every backend that a plugin declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from plughost import MCPPlugin

    from plughost_testing.services import PostgreSQL, Redis, Service

BACKENDS = ("memory", "sqlite", "redis", "postgresql")


@dataclass(frozen=True)
class Backend:
    """Where a plugin keeps its state in this run of a test: empty, and the test's alone."""

    name: str
    """One of `memory`, `sqlite`, `redis`, `postgresql`."""
    url: str
    """What goes into the plugin's config."""
    service: Service | None = None
    """The process behind it, to kill, freeze and restart; `None` if there is none."""


def on_backends(*which: str | type[MCPPlugin[Any]]) -> pytest.MarkDecorator:
    """Run a test that takes the fixture `backend` once on each of these backends.

    A plugin class stands for those that it declares in a class attribute `backends`.

    Raises:
        ValueError: One is unknown, or a plugin declares none.
    """
    names = [name for item in which for name in ((item,) if isinstance(item, str) else _declared(item))]
    for name in names:
        if name not in BACKENDS:
            raise ValueError(f"{name!r} is no backend; there are {', '.join(BACKENDS)}")
    return pytest.mark.backends(*dict.fromkeys(names))


def _declared(plugin_class: type[MCPPlugin[Any]]) -> tuple[str, ...]:
    found: tuple[str, ...] | None = getattr(plugin_class, "backends", None)
    if not found:
        raise ValueError(f"{plugin_class.__name__} declares no backends; give it backends = ('memory', 'redis')")
    return found


def make_backend(name: str, folder: Path, redis: Callable[[], Redis], postgresql: Callable[[], PostgreSQL]) -> Backend:
    """An empty backend; the servers are only asked for when they are needed."""
    match name:
        case "sqlite":
            return Backend(name, f"sqlite:///{folder / 'backend.db'}")
        case "redis":
            server = redis()
            server.clear()
            return Backend(name, server.url, server)
        case "postgresql":
            return Backend(name, postgresql().new_database(), postgresql())
        case _:
            return Backend(name, f"{name}://")
