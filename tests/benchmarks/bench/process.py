"""Servers and measurements in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import ParamSpec, TypeVar

SERVE = Path(__file__).parents[1] / "serve.py"
PATIENCE_SECONDS = 60.0

P = ParamSpec("P")
T = TypeVar("T")


def role(*arguments: str) -> list[str]:
    """The command line of `serve.py`."""
    return [sys.executable, str(SERVE), *arguments]


def compiling() -> dict[str, str]:
    """This environment, with bytecode written: as installed packages have it, which start from none only once."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child with pipes, ended on the way out, and killed should the benchmark hang on it."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=compiling())
    watchdog = Timer(PATIENCE_SECONDS, child.kill)
    watchdog.start()
    try:
        yield child
    finally:
        watchdog.cancel()
        with child:  # closes the pipes: a stdio server ends with its input
            if child.stdin:
                child.stdin.close()
            try:
                child.wait(2)
            except subprocess.TimeoutExpired:
                child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()


def line(child: subprocess.Popen[bytes]) -> bytes:
    """The next line that `child` prints.

    Raises:
        RuntimeError: It ended, or was ended since it kept silent for too long.
    """
    assert child.stdout
    if not (text := child.stdout.readline()):
        raise RuntimeError(f"{child.args!r} ended without a word (exit code {child.wait()}); see its stderr above")
    return text


@contextmanager
def listening(*arguments: str) -> Iterator[int]:
    """The port of a HTTP role of `serve.py`."""
    with started(role(*arguments)) as child:
        yield int(line(child))
        child.terminate()


def resident_kib(pid: int | str = "self") -> int:
    """Resident memory of a process in KiB, as Linux tells it."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return next(int(entry.split()[1]) for entry in status.splitlines() if entry.startswith("VmRSS:"))


def in_fresh_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns in a process that has done nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args, kwargs)
