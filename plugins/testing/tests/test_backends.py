"""One test on several backends."""

from __future__ import annotations

import sqlite3

import pytest
from plughost import MCPPlugin
from plughost_testing import Backend, on_backends
from plughost_testing.services import PostgreSQL, Redis

ALL = ("memory", "sqlite", "redis", "postgresql")


@on_backends(*ALL)
def test_runs_on_each(backend: Backend) -> None:
    """The fixture gives the URL of each backend in turn, and the process behind it."""
    scheme = {"memory": "memory://", "sqlite": "sqlite:////", "redis": "redis://", "postgresql": "postgresql://"}
    assert backend.url.startswith(scheme[backend.name])
    kinds = {"redis": Redis, "postgresql": PostgreSQL}
    assert isinstance(backend.service, kinds.get(backend.name, type(None)))


MATRIX = """
    from plughost import MCPPlugin
    from plughost_testing import on_backends

    class Keeper(MCPPlugin):
        backends = ("memory", "sqlite", "redis", "postgresql")

    @on_backends(Keeper)
    def test_keeps(backend):
        assert backend.name in backend.url
"""


def test_runs_as_declared(pytester: pytest.Pytester) -> None:
    """A plugin class stands for the backends it declares; those that need a server can be left out by a marker."""
    pytester.makepyfile(MATRIX)
    found = pytester.runpytest("-p", "no:cacheprovider", "--collect-only", "-q").outlines
    assert [line.partition("::")[2] for line in found[:4]] == [f"test_keeps[{name}]" for name in ALL]
    without = pytester.runpytest("-p", "no:cacheprovider", "-m", "not services")
    without.assert_outcomes(passed=2, deselected=2)


def test_is_memory_unless_marked(backend: Backend) -> None:
    """Without the decorator the fixture is a memory backend."""
    assert backend == Backend("memory", "memory://")


@pytest.mark.parametrize("turn", [1, 2])
@on_backends("sqlite", "redis", "postgresql")
def test_is_empty_each_time(backend: Backend, turn: int) -> None:
    """What one run keeps, the next does not find."""
    if isinstance(backend.service, Redis):
        assert backend.service.ask("EXISTS kept") == ":0"
        backend.service.ask("SET kept 1")
    elif isinstance(backend.service, PostgreSQL):
        backend.service.query("CREATE TABLE kept (n int)", database=backend.url.rpartition("/")[2])
    else:
        with sqlite3.connect(backend.url.removeprefix("sqlite:///")) as database:
            database.execute("CREATE TABLE kept (n int)")
        database.close()


@pytest.mark.parametrize("turn", ["kill", "freeze", "look"])
@on_backends("redis")
def test_is_mended(backend: Backend, turn: str) -> None:
    """A server that a test killed or froze serves the next one."""
    assert isinstance(backend.service, Redis)
    assert backend.service.ask("PING") == "+PONG"
    if turn != "look":
        getattr(backend.service, turn)()


def test_unknown_backend_is_refused() -> None:
    """A misspelt backend is named, with those that there are."""
    with pytest.raises(ValueError, match="'reddis' is no backend; there are memory, sqlite, redis, postgresql"):
        on_backends("reddis")


def test_plugin_without_backends_is_refused() -> None:
    """A plugin that declares none is told how to."""
    with pytest.raises(ValueError, match="MCPPlugin declares no backends; give it backends = "):
        on_backends(MCPPlugin)


def test_marked_test_must_look(pytester: pytest.Pytester) -> None:
    """A test that would run the same thing several times is refused."""
    pytester.makepyfile("import pytest\n@pytest.mark.backends('memory')\ndef test_nothing(): pass\n")
    pytester.runpytest("-p", "no:cacheprovider").stdout.fnmatch_lines(["*does not take the fixture `backend`*"])
