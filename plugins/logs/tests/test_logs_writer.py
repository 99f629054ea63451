"""The thread that writes, and the file it writes to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from plughost_logs._file import Console, RotatedFile
from plughost_logs._writer import Writer


class Held:
    """A sink that blocks until it is let go, as a full pipe does; or fails."""

    def __init__(self) -> None:
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
        pass


def confess(count: int) -> bytes:
    return b"lost %d" % count


def make(sink: Held, render: Callable[[str], bytes] = str.encode, limit: int = 10) -> Writer[str]:
    return Writer(sink, render, confess, limit=limit)


def test_a_pipe_that_nobody_reads_holds_up_nobody_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that start a host on stdio may not read its standard error: it must be able to end all the same."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as stderr, os.fdopen(read, "rb") as reader:
        monkeypatch.setattr(sys, "stderr", stderr)
        writer = Writer(Console(), str.encode, confess, limit=10)
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
    """Closing waits no longer than it is told to."""
    sink = Held()
    writer = make(sink)
    writer.put("stuck")
    assert sink.entered.wait(10)
    assert not writer.close(0)
    sink.go.set()
    assert writer.close(10)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.parent.iterdir()) if file.suffix != ".lock"}


def test_a_file_is_rotated_before_it_grows_too_large(tmp_path: Path) -> None:
    """The newest is `.1`; the oldest goes."""
    file = RotatedFile(tmp_path / "log", max_size=4, backups=2)
    for line in (b"aaaa", b"bb", b"cc", b"d", b"eeeee"):
        file.write(line)
    file.close()
    assert contents(tmp_path / "log") == {"log": b"eeeee", "log.1": b"d", "log.2": b"bbcc"}


def test_without_backups_the_file_is_emptied(tmp_path: Path) -> None:
    """And goes on under its name."""
    file = RotatedFile(tmp_path / "log", max_size=4, backups=0)
    file.write(b"aaaa")
    file.write(b"b")
    file.close()
    assert contents(tmp_path / "log") == {"log": b"b"}


@pytest.mark.parametrize("how", ["rename", "unlink"])
def test_a_file_that_others_rotate_is_opened_anew(tmp_path: Path, how: str) -> None:
    """What comes after goes to the file of that name."""
    path = tmp_path / "log"
    file = RotatedFile(path, max_size=100, backups=1)
    file.write(b"old")
    if how == "rename":
        path.rename(tmp_path / "log-2026")
    else:
        path.unlink()
    file.write(b"new")
    file.close()
    assert path.read_bytes() == b"new"


def test_a_file_is_not_for_everybody(tmp_path: Path) -> None:
    """Others on the machine cannot read it."""
    RotatedFile(tmp_path / "log", max_size=100, backups=1).close()
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


WRITE_MANY = """
import sys
from pathlib import Path
from plughost_logs._file import RotatedFile

file = RotatedFile(Path(sys.argv[1]), max_size=500, backups=100)
for number in range(300):
    file.write(f"{sys.argv[2]} {number}\\n".encode())
file.close()
"""


def test_processes_share_a_file_through_rotations(tmp_path: Path) -> None:
    """No line is lost or torn, and each process's lines stay in their order."""
    path = tmp_path / "log"
    children = [subprocess.Popen([sys.executable, "-c", WRITE_MANY, str(path), name]) for name in ("a", "b", "c")]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    files = sorted(tmp_path.glob("log*[0-9]"), key=lambda file: -int(file.suffix[1:]))
    lines = b"".join(file.read_bytes() for file in [*files, path]).decode().splitlines()
    assert len(files) > 3
    for name in ("a", "b", "c"):
        assert sorted(int(line.split()[1]) for line in lines if line.startswith(name)) == list(range(300))
