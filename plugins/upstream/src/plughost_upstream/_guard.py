"""Sees to it that child processes die with the host, however the host dies (L2)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread

REAPER = Path(__file__).with_name("_reaper.py")


class Guard:
    """Keeps one small process that kills the children's process groups when the host is gone.

    A parent-death signal would reach the child only, not its children (`npx` starts `node`), and needs code between
    fork and exec; a wrapper per child would cost a process each.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def watch(self, group: int) -> None:
        """Kill this process group when the host ends."""
        self._groups.add(group)
        if not self._tell(f"{group}\n"):
            self._start()

    def forget(self, group: int) -> None:
        """This group is gone; its number may be used by others."""
        self._groups.discard(group)
        if self._process is not None and not self._tell(f"-{group}\n"):
            self._start()

    async def close(self) -> None:
        """End the process; groups still watched are killed by it."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(process.wait)

    def _start(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
        # In a session of its own: a Ctrl-C in the terminal must not end it before the host is done.
        self._process = subprocess.Popen(  # noqa: S603 - fixed arguments
            [sys.executable, "-I", "-S", str(REAPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            bufsize=0,
        )
        for group in self._groups:
            self._tell(f"{group}\n")

    def _tell(self, line: str) -> bool:
        if self._process is None:
            return False
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
        except OSError:  # somebody killed it
            return False
        return True

    def __repr__(self) -> str:
        return f"<Guard of {len(self._groups)} process groups>"
