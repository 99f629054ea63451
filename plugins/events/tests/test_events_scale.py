"""Queries stay flat: each finds its rows by an index, on both databases, at a million events."""

from __future__ import annotations

from pathlib import Path

import pytest
from event_stores import database
from plughost_events._database import STATEMENTS, Database
from plughost_testing import Backend, on_backends

STREAMS = 50
"""Events in each stream."""
SERIES = {
    "?": "(WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < ?) SELECT n FROM series)",
    "%s": "(SELECT n FROM generate_series(1, %s) AS series(n))",
}
FILL = {
    "events": (
        "SELECT n, 'event-' || n, 's:' || ((n - 1) / {each}), (n - 1) - (n - 1) / {each} * {each} + 1, "
        "'x', 1, n, 0, {data}, {data}"
    ),
    "streams": "SELECT 's:' || n, {each}",
    "snapshots": "SELECT 'activity', 's:' || n, {each}, 1, n, 0, {data}, {data}",
}
"""Table → what fills it, for each number of a series."""


@on_backends("sqlite")
def test_every_statement_finds_its_rows_by_an_index(backend: Backend) -> None:
    """No statement reads a whole table."""
    check(backend, 20_000)


@pytest.mark.services
@on_backends("sqlite", "postgresql")
def test_every_statement_finds_its_rows_by_an_index_at_a_million_events(backend: Backend) -> None:
    """At a million events the planner of both databases chooses an index for every statement."""
    check(backend, 1_000_000)


def check(backend: Backend, events: int) -> None:
    store = database(backend.url)
    store.connect()
    data = "x'00'" if store.placeholder == "?" else "'x'::bytea"
    try:
        if store.placeholder == "%s":
            store.run("SET statement_timeout = 0")
        store.run("BEGIN")
        for table, row in FILL.items():
            numbers = f"{row.format(each=STREAMS, data=data)} FROM {SERIES[store.placeholder]} AS numbers"
            store.run(f"INSERT INTO plughost_{table} {numbers}", events if table == "events" else events // STREAMS)
        store.run("COMMIT")
        store.run("ANALYZE")
        for name, plan in plans(store).items():
            assert "SEQ SCAN" not in plan, f"{name}: {plan}"
            assert "SCAN PLUGHOST" not in plan, f"{name}: {plan}"
            assert "INDEX" in plan or "PRIMARY KEY" in plan, f"{name}: {plan}"
    finally:
        store.close()


def plans(store: Database) -> dict[str, str]:
    """Statement → how the database would find its rows."""
    parameters: dict[str, tuple[object, ...]] = {
        "known ids": (store.in_list([f"event-{number}" for number in range(100)]),),
        "versions": (store.in_list(["s:1", "s:9"]),),
        "page": (5000, 500),
        "stream page": ("s:7", 5, 500),
        "by id": ("event-77",),
        "time": (7000,),
        "streams": ("s:2", 10),
        "prune": (0, 2000),
        "snapshot": ("activity", "s:2"),
        "snapshots": ("activity", "s:2", 10),
        "drop snapshot": ("activity", "s:2"),
    }
    whole = {"chain", "extend chain", "move anchor", "drop snapshots"}  # the only row of a table, or all of a name
    inserts = {name for name, sql in STATEMENTS.items() if sql.startswith("INSERT")}
    assert parameters.keys() | whole | inserts == STATEMENTS.keys()
    explain = "EXPLAIN QUERY PLAN " if store.placeholder == "?" else "EXPLAIN "
    return {
        name: " / ".join(str(row[-1]) for row in store.run(explain + store.statements[name], *values)).upper()
        for name, values in parameters.items()
    }


def test_the_file_is_the_only_one_that_is_needed(tmp_path: Path) -> None:
    """A closed store is one file: nothing of it waits elsewhere."""
    store = database(f"sqlite:///{tmp_path}/events.db")
    store.connect()
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["events.db"]


def test_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    """SQLite syncs its log at each commit: no kill of the machine could show it here."""
    store = database(f"sqlite:///{tmp_path}/events.db")
    assert store.run("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.run("PRAGMA synchronous").fetchone() == (2,)
    store.close()
