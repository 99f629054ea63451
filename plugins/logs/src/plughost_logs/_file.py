"""A log file that is rotated by size, and that several processes may append to.

`logging.handlers.RotatingFileHandler` renames the file under the other processes. Here a rotation holds a lock, and
each write first looks whether the name still leads to the open file; so another program may rotate it as well.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

MODE = 0o640


class RotatedFile:
    """Appends to `path`; from `max_size` bytes on it becomes `PATH.1`, and so on up to `backups` files.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, *, max_size: int, backups: int) -> None:
        self.path = path
        self._max_size = max_size
        self._backups = backups
        self._file = self._open()

    def write(self, data: bytes) -> None:
        if not self._is_current():
            os.close(self._file)
            self._file = self._open()
        if (size := os.fstat(self._file).st_size) and size + len(data) > self._max_size:
            self._rotate(size)
        _write_all(self._file, data)

    def close(self) -> None:
        os.close(self._file)

    def abandon(self) -> None:
        pass

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)

    def _is_current(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(self.path.stat(), os.fstat(self._file))
        return False

    def _rotate(self, size: int) -> None:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._is_current() and os.fstat(self._file).st_size >= size:  # nobody else was quicker
                if self._backups:
                    for number in range(self._backups - 1, 0, -1):
                        with suppress(FileNotFoundError):
                            self._backup(number).rename(self._backup(number + 1))
                    self.path.rename(self._backup(1))
                else:
                    os.ftruncate(self._file, 0)
        finally:
            os.close(lock)
        if not self._is_current():
            os.close(self._file)
            self._file = self._open()

    def _backup(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _write_all(target: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]
