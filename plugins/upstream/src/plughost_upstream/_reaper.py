"""Runs as a process of its own: kills the process groups it was told of when its standard input ends.

The host's end of that pipe closes however the host ends, by SIGKILL too, so that no child outlives it (L2). A line
with a number adds a group, with a minus sign it removes one. Standard library only: it starts in a few milliseconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""


def alive(group: int) -> bool:
    """Whether a process group has a member left that is not a zombie.

    Zombies that nobody reaps are common: process 1 of many containers does not.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if not (PROC / "self" / "stat").exists():
        return True
    return any(_lives_in(group, process) for process in PROC.iterdir() if process.name.isdigit())


def _lives_in(group: int, process: Path) -> bool:
    """Whether a process is of this group and no zombie, as Linux tells it."""
    try:
        state, _, its_group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:  # it ended meanwhile
        return False
    return int(its_group) == group and state not in "ZX"


def kill(groups: Iterable[int]) -> None:
    """Terminate groups, and kill what is left after the grace period."""
    left = set(groups)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for group in left:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, sign)
        deadline = time.monotonic() + GRACE
        while (left := {group for group in left if alive(group)}) and time.monotonic() < deadline:
            time.sleep(0.02)


def main() -> None:
    """Follow standard input to its end, then kill."""
    groups: set[int] = set()
    for line in sys.stdin:
        number = int(line)
        if number > 0:
            groups.add(number)
        else:
            groups.discard(-number)
    kill(groups)


if __name__ == "__main__":
    main()
