"""The file that lines are written to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from plughost_logs._file import RotatedFile


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
