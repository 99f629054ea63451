"""The tables, and every statement on them: the same on both databases. One object is one connection, for one thread."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from plughost_events._chain import GENESIS, Anchor, Fault, faults, fingerprint, link
from plughost_events._errors import StoreFormatError, VersionConflict
from plughost_events._event import Prepared, Receipt, Row

if TYPE_CHECKING:
    from asyncio import Future

FORMAT = 1
"""Of the tables; it changes when they do."""
PAGE = 500
"""Events that are read at once."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS plughost_events (
        position {integer} PRIMARY KEY, id {name} NOT NULL UNIQUE, stream {name} NOT NULL, version {integer} NOT NULL,
        type TEXT NOT NULL, schema {integer} NOT NULL, time {integer} NOT NULL, sealed {integer} NOT NULL,
        data {bytes} NOT NULL, hash {bytes} NOT NULL, UNIQUE (stream, version))""",
    """CREATE TABLE IF NOT EXISTS plughost_streams (stream {name} PRIMARY KEY, version {integer} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS plughost_chain (
        one {integer} PRIMARY KEY CHECK (one = 1), position {integer} NOT NULL, hash {bytes} NOT NULL,
        anchor {integer} NOT NULL, anchor_hash {bytes} NOT NULL, format {integer} NOT NULL, key {bytes} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS plughost_snapshots (
        name {name} NOT NULL, stream {name} NOT NULL, version {integer} NOT NULL, schema {integer} NOT NULL,
        time {integer} NOT NULL, sealed {integer} NOT NULL, data {bytes} NOT NULL, hash {bytes} NOT NULL,
        PRIMARY KEY (name, stream))""",
)
COLUMNS = {"columns": ", ".join(Row._fields), "marks": ", ".join("?" * len(Row._fields))}
STATEMENTS = {
    "chain": "SELECT position, hash, anchor, anchor_hash, format, key FROM plughost_chain WHERE one = 1",
    "begin chain": "INSERT INTO plughost_chain VALUES (1, 0, ?, 0, ?, ?, ?) ON CONFLICT DO NOTHING",
    "extend chain": "UPDATE plughost_chain SET position = ?, hash = ? WHERE one = 1",
    "move anchor": "UPDATE plughost_chain SET anchor = ?, anchor_hash = ? WHERE one = 1",
    "known ids": "SELECT id, stream, position, version FROM plughost_events WHERE id {in_list}",
    "versions": "SELECT stream, version FROM plughost_streams WHERE stream {in_list}",
    "insert": "INSERT INTO plughost_events ({columns}) VALUES ({marks})",
    "move stream": (
        "INSERT INTO plughost_streams VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET version = excluded.version"
    ),
    "page": "SELECT {columns} FROM plughost_events WHERE position > ? ORDER BY position LIMIT ?",
    "stream page": "SELECT {columns} FROM plughost_events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?",
    "by id": "SELECT {columns} FROM plughost_events WHERE id = ?",
    "time": "SELECT time FROM plughost_events WHERE position = ?",
    "streams": "SELECT stream, version FROM plughost_streams WHERE stream >= ? ORDER BY stream LIMIT ?",
    "prune": "DELETE FROM plughost_events WHERE position > ? AND position <= ?",
    "save snapshot": (
        "INSERT INTO plughost_snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name, stream) DO UPDATE SET "
        "version = excluded.version, schema = excluded.schema, time = excluded.time, sealed = excluded.sealed, "
        "data = excluded.data, hash = excluded.hash "
        "WHERE excluded.version >= plughost_snapshots.version AND excluded.schema >= plughost_snapshots.schema"
    ),
    "snapshot": (
        "SELECT name, stream, version, schema, time, sealed, data, hash FROM plughost_snapshots "
        "WHERE name = ? AND stream = ?"
    ),
    "snapshots": (
        "SELECT name, stream, version, schema, time, sealed, data, hash FROM plughost_snapshots "
        "WHERE name = ? AND stream >= ? ORDER BY stream LIMIT ?"
    ),
    "drop snapshot": "DELETE FROM plughost_snapshots WHERE name = ? AND stream = ?",
    "drop snapshots": "DELETE FROM plughost_snapshots WHERE name = ?",
}
"""All that is ever asked; each finds its rows by an index."""


class SnapshotRow(NamedTuple):
    """A snapshot as it lies in the table."""

    name: str
    stream: str
    version: int
    schema: int
    time: int
    sealed: int
    data: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Chain:
    """Where the chain ends, and the anchor that it begins from: the last event that was pruned."""

    head: Anchor
    anchor: Anchor


@dataclass(eq=False, slots=True)
class Request:
    """Events for one stream, stored all or none."""

    stream: str
    events: Sequence[Prepared]
    expected: int | None = None
    done: Future[Outcome] | None = field(default=None, repr=False)


Outcome = tuple[Receipt, ...] | VersionConflict


class Database:
    """A connection, opened when it is first needed, and anew after `reset()`."""

    types: ClassVar[dict[str, str]]
    """How the database calls things, by their names in `TABLES` and `STATEMENTS`."""
    begin: ClassVar[str]
    """Begins a transaction that writes."""
    begin_reading: ClassVar[str]
    """Begins a transaction that sees one state of the store throughout."""
    lock: ClassVar[str] = ""
    """What the head of the chain is read with, so that nobody else extends it until the end of the transaction."""
    placeholder: ClassVar[str] = "?"
    errors: tuple[type[Exception], ...] = ()
    """What the library raises when the database fails."""

    def __init__(self, key: bytes = b"") -> None:
        self.key = key
        self._connection: Any = None
        words = {name: text.format(**COLUMNS, **self.types) for name, text in STATEMENTS.items()}
        self.statements = {name: text.replace("?", self.placeholder) for name, text in words.items()}

    # -- what a database does its own way -----------------------------------------------------------------------------

    def open(self) -> Any:
        """A new connection, in autocommit mode."""
        raise NotImplementedError

    def in_list(self, items: list[str]) -> Any:
        """The parameter for `{in_list}`."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """End what another thread waits for."""
        raise NotImplementedError

    def check(self) -> None:
        """Called before a batch is written.

        Raises:
            StoreUnavailable: What it is connected to is not the store any more.
        """

    # -- connection ---------------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        """The connection; makes the tables if they are not there.

        Raises:
            StoreFormatError: The tables are of another format, or the chain was begun with another key.
        """
        if self._connection is None:
            self._connection = self.open()
            try:
                self._prepare()
            except BaseException:
                self.reset()
                raise
        return self._connection

    def _prepare(self) -> None:
        with self.transaction(self.begin):
            for table in TABLES:
                self.run(table.format(**self.types))
            self.ask("begin chain", GENESIS, GENESIS, FORMAT, fingerprint(self.key))
            (row,) = self.ask("chain").fetchall()
        if row[4] != FORMAT:
            raise StoreFormatError(f"the store is of format {row[4]}, and this version reads {FORMAT}; upgrade")
        if bytes(row[5]) != fingerprint(self.key):
            raise StoreFormatError("the chain was begun with another chain_key, or without one; set that one again")

    def reset(self) -> None:
        """Forget a connection that may be broken; the next question opens another."""
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def run(self, sql: str, *parameters: Any) -> Any:
        """A cursor over the answer."""
        return self.connect().execute(sql, parameters)

    def ask(self, statement: str, *parameters: Any, suffix: str = "") -> Any:
        """A cursor over the answer to one of `STATEMENTS`."""
        return self.run(self.statements[statement] + suffix, *parameters)

    def each(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one of `STATEMENTS` for each row."""
        self.connect().cursor().executemany(self.statements[statement], rows)

    @contextmanager
    def transaction(self, begin: str) -> Iterator[None]:
        """All or nothing."""
        self.run(begin)
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with suppress(Exception):
                self.run("ROLLBACK")
            raise

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[Request]) -> list[Outcome]:
        """Store a batch in one transaction, and say of each request where it went, or that it conflicts.

        The head of the chain is the lock: who holds it numbers its events without a gap, in the order of commits.
        """
        self.check()
        with self.transaction(self.begin):
            head = self.chain(lock=True).head
            position, digest = head.position, head.hash
            ids = self.in_list([event.id for request in batch for event in request.events])
            known = {row[0]: Receipt(*row) for row in self.ask("known ids", ids)}
            streams = self.in_list(list({request.stream for request in batch}))
            before = dict(self.ask("versions", streams).fetchall())
            versions = dict(before)
            rows: list[tuple[Any, ...]] = []
            outcomes: list[Outcome] = []
            for request in batch:
                stream, expected = request.stream, request.expected
                version = versions.get(stream, 0)
                if expected not in {None, version} and any(event.id not in known for event in request.events):
                    outcomes.append(VersionConflict(stream, expected or 0, version))
                    continue
                for id_, type_, schema, time, sealed, data in request.events:
                    if id_ in known:
                        continue
                    position += 1
                    version += 1
                    row = (position, id_, stream, version, type_, schema, time, sealed, data)
                    digest = link(digest, self.key, row)
                    rows.append((*row, digest))
                    known[id_] = Receipt(id_, stream, position, version)
                versions[stream] = version
                outcomes.append(tuple([known[event.id] for event in request.events]))
            if rows:
                self.each("insert", rows)
                self.each("move stream", [item for item in versions.items() if before.get(item[0]) != item[1]])
                self.ask("extend chain", position, digest)
        return outcomes

    def prune(self, before: int, most: int) -> list[Row]:
        """Delete the oldest events that happened before a time (µs), and anchor the chain behind them.

        At most `most`. To be called in a transaction: they are archived before it ends.
        """
        anchor = self.chain(lock=True).anchor
        old: list[Row] = []
        for row in self.page(anchor.position, most):
            if row.time >= before:
                break
            old.append(row)
        if old:
            self.ask("prune", anchor.position, old[-1].position)
            self.ask("move anchor", old[-1].position, old[-1].hash)
        return old

    # -- reading ------------------------------------------------------------------------------------------------------

    def chain(self, *, lock: bool = False) -> Chain:
        (row,) = self.ask("chain", suffix=self.lock if lock else "").fetchall()
        return Chain(Anchor(row[0], bytes(row[1])), Anchor(row[2], bytes(row[3])))

    def page(self, after: int, limit: int = PAGE) -> list[Row]:
        """Events behind a position."""
        return [Row._make(row) for row in self.ask("page", after, limit)]

    def stream_page(self, stream: str, after: int, limit: int = PAGE) -> list[Row]:
        """Events of a stream behind a version."""
        return [Row._make(row) for row in self.ask("stream page", stream, after, limit)]

    def by_id(self, id_: str) -> Row | None:
        row = self.ask("by id", id_).fetchone()
        return Row._make(row) if row else None

    def version(self, stream: str) -> int:
        """The version that a stream is at; 0 if it has no events."""
        row = self.ask("versions", self.in_list([stream])).fetchone()
        return int(row[1]) if row else 0

    def streams(self, first: str = "", limit: int = PAGE) -> list[tuple[str, int]]:
        """Streams from this name on, in the order of their names, with their versions."""
        return [(row[0], row[1]) for row in self.ask("streams", first, limit)]

    def before(self, time: int) -> int:
        """The position behind which events happened at a time (µs) or later.

        Positions grow with time as far as the clocks of the hosts agree: so the time needs no index.
        """
        chain = self.chain()
        places = range(chain.anchor.position + 1, chain.head.position + 1)
        return chain.anchor.position + bisect_left(
            places, time, key=lambda place: self.ask("time", place).fetchone()[0]
        )

    def verify(self, end: Anchor | None = None) -> tuple[Chain, list[Fault]]:
        """Everything that is wrong with the chain; `end` is an event that must be in it."""
        with self.transaction(self.begin_reading):
            chain = self.chain()
            found = list(faults(self._rows(chain.anchor.position), chain.anchor, chain.head, self.key))
            if end is not None and end.position > chain.anchor.position:
                rows = self.page(end.position - 1, 1)
                if not rows or (rows[0].position, rows[0].hash) != (end.position, end.hash):
                    found.append(Fault(end.position, "is not the event that was anchored: the chain was made anew"))
        return chain, found

    def _rows(self, after: int) -> Iterator[Row]:
        while rows := self.page(after):
            yield from rows
            after = rows[-1].position

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def save_snapshot(self, row: Sequence[Any]) -> None:
        """Keep a row, less its hash, unless one of a newer version or schema is there."""
        self.ask("save snapshot", *row, self.snapshot_hash(row))

    def snapshot(self, name: str, stream: str) -> SnapshotRow | None:
        row = self.ask("snapshot", name, stream).fetchone()
        return SnapshotRow._make(row) if row else None

    def snapshots(self, name: str, first: str = "", limit: int = PAGE) -> list[SnapshotRow]:
        """The snapshots of a name, from this stream on, in the order of their streams."""
        return [SnapshotRow._make(row) for row in self.ask("snapshots", name, first, limit)]

    def drop_snapshots(self, name: str, stream: str | None) -> int:
        """How many were dropped."""
        cursor = self.ask("drop snapshots", name) if stream is None else self.ask("drop snapshot", name, stream)
        return int(cursor.rowcount)

    def snapshot_hash(self, row: Sequence[Any]) -> bytes:
        """The hash of a snapshot, given all its columns but the hash."""
        name, stream, version, schema, time, sealed, data = row
        return link(GENESIS, self.key, (0, name, stream, version, "", schema, time, sealed, bytes(data)))
