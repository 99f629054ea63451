"""A file of what could not be delivered: one JSON line each, bounded, safe between processes that share it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

logger = logging.getLogger("plughost.bus")


@dataclass(frozen=True, slots=True)
class Letter:
    """A delivery that failed."""

    webhook: str
    """The webhook it was for."""
    id: str
    """Its `webhook-id`, which stays the same when it is delivered again."""
    body: str
    """What was posted."""
    reason: str
    """Why it failed, the last time."""
    attempts: int
    """How often it was posted."""
    time: float
    """When it was given up, in seconds since the epoch."""


class DeadLetters:
    """Letters in a file. When it has `max_bytes`, it is moved aside (`….1`), and the one before it is thrown away.

    Its methods block: call them from a worker thread.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.older = path.with_name(path.name + ".1")
        self._lock = path.with_name(path.name + ".lock")
        self._max_bytes = max_bytes

    def add(self, letters: Iterable[Letter]) -> None:
        """Write letters behind those there are.

        Raises:
            OSError: The file cannot be written.
        """
        with self._alone():
            self._append(letters)

    def take(self, webhook: str, most: int) -> list[Letter]:
        """Take at most so many letters of a webhook out, oldest first; the others stay.

        Raises:
            OSError: The file cannot be read or written.
        """
        with self._alone():
            taken: list[Letter] = []
            kept: list[Letter] = []
            for letter in self._read():
                (taken if len(taken) < most and letter.webhook == webhook else kept).append(letter)
            rest = self.path.with_name(self.path.name + ".new")
            with _open(rest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
                file.writelines(_line(letter) for letter in kept)
            rest.replace(self.path)
            self.older.unlink(missing_ok=True)
            return taken

    def count(self) -> int:
        """How many there are."""
        return sum(1 for _ in self._read())

    def _append(self, letters: Iterable[Letter]) -> None:
        for letter in letters:
            line = _line(letter)
            if self.path.exists() and self.path.stat().st_size + len(line) > self._max_bytes:
                lost = self.older.exists()
                self.path.replace(self.older)
                logger.warning("%s is full; it is %s now%s", self.path, self.older, ", whose letters are lost" * lost)
            with _open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
                file.write(b"\n" * _is_cut_short(file) + line)

    def _read(self) -> Iterator[Letter]:
        for path in (self.older, self.path):
            if path.exists():
                with path.open(encoding="utf-8") as lines:
                    for number, line in enumerate(lines, 1):
                        try:
                            yield Letter(**json.loads(line))
                        except (ValueError, TypeError) as error:
                            logger.warning("%s, line %d is no letter: %s", path, number, error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _open(self._lock, os.O_WRONLY | os.O_CREAT) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _line(letter: Letter) -> bytes:
    return json.dumps(asdict(letter)).encode() + b"\n"


def _is_cut_short(file: IO[bytes]) -> bool:
    """Whether the last line has no end, as after a crash."""
    size = os.fstat(file.fileno()).st_size
    return size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"


def _open(path: Path, flags: int) -> IO[bytes]:
    """A file for nobody else's eyes."""
    return os.fdopen(os.open(path, flags, 0o600), "wb")
