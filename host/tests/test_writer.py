"""The thread that writes lines, so that nobody else waits for who reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from plughost import LineWriter, StandardError


class Held:
    """A sink that blocks until it is let go, as a full pipe does; or fails."""

    def __init__(self) -> None:
        self.abandoned = False
        self.go = threading.Event()
        self.entered = threading.Event()
        self.lines: list[bytes] = []
        self.failure: OSError | None = None

    def write(self, data: bytes) -> None:
        self.entered.set()
        assert self.go.wait(10)
        if self.failure is not None:
            raise self.failure
        self.lines += data.splitlines()

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        self.abandoned = True


def confess(count: int) -> bytes:
    return b"lost %d" % count


def make(sink: Held, render: Callable[[str], bytes] = str.encode, limit: int = 10) -> LineWriter[str]:
    return LineWriter(sink, render, confess, limit=limit)


def test_a_pipe_that_nobody_reads_holds_up_nobody_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that start a host on stdio may not read its standard error: it must be able to end all the same."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as stderr, os.fdopen(read, "rb") as reader:
        monkeypatch.setattr(sys, "stderr", stderr)
        writer = LineWriter(StandardError(), str.encode, confess, limit=10)
        writer.put("x" * 1_000_000)
        assert not writer.flush(0.2)
        assert os.get_blocking(write) is False  # who writes from now on does not wait
        assert reader.read1(1_000_000)  # now the one that hung goes on, and gives up
        assert writer.close(10)
    assert isinstance(writer.failure, BlockingIOError)


def test_flushed_is_written() -> None:
    """When `flush` returns, all that was put before has been written, and the writer goes on."""
    sink = Held()
    sink.go.set()
    writer = make(sink)
    writer.put("one")
    assert writer.flush(10)
    assert sink.lines == [b"one"]
    writer.put("two")
    assert writer.close(10)
    assert sink.lines == [b"one", b"two"]


def test_whoever_logs_does_not_wait_for_a_sink_that_blocks() -> None:
    """What waits is bounded; the rest is counted, and the log says how much, once."""
    sink = Held()
    writer = make(sink, limit=3)
    writer.put("first")
    assert sink.entered.wait(10)
    for number in range(5):
        writer.put(str(number))
    assert (writer.waiting, writer.lost) == (3, 2)
    sink.go.set()
    assert writer.close(10)
    assert sink.lines == [b"first", b"0", b"1", b"2", b"lost 2"]
    assert writer.written == 5


def test_a_sink_that_fails_loses_lines_and_says_so() -> None:
    """A full disk is a failure until it takes lines again; what was lost meanwhile is owned up to."""
    sink = Held()
    sink.go.set()
    sink.failure = OSError(28, "No space left on device")
    writer = make(sink)
    writer.put("gone")
    while writer.failure is None:
        assert sink.entered.wait(10)
    sink.failure = None
    writer.put("kept")
    assert writer.close(10)
    assert sink.lines == [b"kept", b"lost 1"]
    assert writer.failure is None


def test_a_line_that_cannot_be_rendered_does_not_end_the_log() -> None:
    """It is lost, and counted."""

    def render(item: str) -> bytes:
        if item == "bad":
            raise ValueError(item)
        return item.encode()

    sink = Held()
    sink.go.set()
    writer = make(sink, render)
    for item in ("one", "bad", "two"):
        writer.put(item)
    assert writer.close(10)
    assert sorted(sink.lines) == [b"lost 1", b"one", b"two"]


def test_a_sink_that_hangs_does_not_hold_up_the_end() -> None:
    """Closing waits no longer than it is told to, and then abandons the sink."""
    sink = Held()
    writer = make(sink)
    writer.put("stuck")
    assert sink.entered.wait(10)
    assert not writer.close(0)
    assert sink.abandoned
    sink.go.set()
    assert writer.close(10)


FORKS = """
import os, sys
from plughost import LineWriter, StandardError

writer = LineWriter(StandardError(), str.encode, lambda count: b"lost %d" % count, limit=10)
writer.put("parent")
writer.flush(10)
for lines in ([], ["child"]):
    if (child := os.fork()) == 0:
        for line in lines:
            writer.put(line)
        os._exit(not writer.flush(10 if lines else 0.1))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.get_blocking(2))
writer.put("parent again")
writer.close(10)
"""


def test_a_child_of_fork_writes_its_own_lines() -> None:
    """One that writes nothing leaves the pipe as it is, which is also its parent's."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split() == ["0", "True"] * 2
    assert ended.stderr.split("\n") == ["parent", "child", "parent again", ""]
