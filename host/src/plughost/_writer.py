"""Writes lines in a thread of its own: whoever logs never waits, and nothing is lost in silence."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

T = TypeVar("T")

GATHER = 0.02
"""Seconds in which lines are gathered to be written at once."""


class LineSink(Protocol):
    """Where lines go. It is written to from one thread."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """A write hangs: whoever else writes there must not."""


class StandardError:
    """The sink of the process's standard error, which stays open.

    Written past Python's buffer: a write that hangs would hold its lock, also when the process ends.
    """

    def write(self, data: bytes) -> None:
        try:
            target = sys.stderr.fileno()
        except (OSError, AttributeError):  # something that is not a file was put in its place
            sys.stderr.write(data.decode())
            sys.stderr.flush()
        else:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(target, rest) :]

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        """Nobody reads the pipe: who writes from now on loses a line, and does not wait."""
        with suppress(OSError, AttributeError):
            target = sys.stderr.fileno()
            if stat.S_ISFIFO(os.fstat(target).st_mode):  # a terminal is also the shell's
                os.set_blocking(target, False)


class LineWriter(Generic[T]):
    """A bounded queue of items, and the thread that renders and writes them.

    `render(item)` is a line without its end; `confess(count)` the line that says how many items were lost.
    """

    def __init__(
        self, sink: LineSink, render: Callable[[T], bytes], confess: Callable[[int], bytes], *, limit: int
    ) -> None:
        self._sink = sink
        self._render = render
        self._confess = confess
        self._limit = limit
        self._begin()
        self._start()
        _writers.add(self)

    def _begin(self) -> None:
        """Nothing waits, and no thread runs: at first, and in a child of `fork`, where only one thread goes on.

        What waited is the parent's to write.
        """
        self._queue: SimpleQueue[T | threading.Event | None] = SimpleQueue()
        self._stopping = threading.Event()
        self.written = 0
        self.lost = 0
        self._confessed = 0
        self.failure: Exception | None = None
        """Why the last write failed, if it did."""
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def _start(self) -> threading.Thread:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="plughost-logs", daemon=True)
                self._thread.start()
            return self._thread

    def put(self, item: T) -> None:
        """Have an item written soon; it is lost if too many wait."""
        if self._queue.qsize() >= self._limit:
            self.lost += 1
        else:
            self._queue.put(item)
            if self._thread is None:  # in a child of `fork`, which has written nothing yet
                self._start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def flush(self, timeout: float) -> bool:
        """Write what waits, at most for `timeout` seconds. Says whether all of it is written."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        if not done.wait(timeout):
            self._sink.abandon()
        return done.is_set()

    def close(self, timeout: float) -> bool:
        """Write what waits, as `flush` does, and end. Says whether it has ended."""
        self._stopping.set()
        self._queue.put(None)
        thread = self._start()
        thread.join(timeout)
        if thread.is_alive():
            self._sink.abandon()
        return not thread.is_alive()

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is not None:
                self._stopping.wait(GATHER)
            items = [first, *self._rest()]
            self._write([item for item in items if item is not None and not isinstance(item, threading.Event)])
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
            if None in items:
                self._sink.close()
                return

    def _rest(self) -> list[T | threading.Event | None]:
        found: list[T | threading.Event | None] = []
        while len(found) < self._limit:
            try:
                found.append(self._queue.get_nowait())
            except Empty:
                break
        return found

    def _write(self, items: list[T]) -> None:
        lines = []
        for item in items:
            try:
                lines.append(self._render(item))
            except Exception as error:  # noqa: BLE001 - a line that cannot be rendered must not end the log
                self.lost += 1
                self.failure = error
        lost = self.lost - self._confessed
        if lost:
            lines.append(self._confess(lost))
        try:
            self._sink.write(b"".join(line + b"\n" for line in lines))
        except Exception as error:  # noqa: BLE001 - a full disk must not end the log
            self.lost += len(lines) - bool(lost)
            self.failure = error
        else:
            self.written += len(lines)
            self._confessed += lost
            self.failure = None


_writers: WeakSet[LineWriter[Any]] = WeakSet()


def _begin_anew() -> None:
    for writer in _writers:
        writer._begin()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_begin_anew)
