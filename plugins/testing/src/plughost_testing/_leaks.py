"""What a piece of code left behind: tasks, timers, threads, child processes, open descriptors, logger handlers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import stat
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import psutil

from plughost_testing._clock import VirtualLoop
from plughost_testing.services.service import Service

PATIENCE = 1.0
"""Real seconds that what is on its way out gets."""
SHORTEST, LONGEST = 0.001, 0.02
"""Real seconds between two looks at it, at first and at last."""
POOLED = ("AnyIO worker thread", "asyncio_")
"""Threads that wait for the next piece of work of the loop, and end with it."""
STANDING = ("TestRunner.", "_shutdown_watcher")
"""Tasks that live as long as the loop: those of anyio's pytest plugin, and one of the library that serves SSE."""


@dataclass(frozen=True)
class Inventory:
    """What a process and its running loop hold at one moment, each thing under a description."""

    held: Mapping[Any, str]

    @classmethod
    def take(cls, *, timers: bool = False) -> Inventory:
        """The inventory of now; with `timers`, those of a `VirtualLoop` too (transports forget theirs until due)."""
        held = {**_tasks(), **_threads(), **_children(), **_descriptors(), **_handlers()}
        return cls({**held, **_timers()} if timers else held)

    def since(self, before: Inventory) -> list[str]:
        """Descriptions of what is here and was not before."""
        return sorted(text for thing, text in self.held.items() if thing not in before.held)


class LeakError(AssertionError):
    """Raised when something was left behind; the message names it."""


async def check_leaks(before: Inventory, *, what: str = "the test", timers: bool = False) -> None:
    """Fail if more is held than before. What is on its way out, such as a closing socket, gets the time to go.

    Raises:
        LeakError: Names each thing that was left.
    """
    left = await _left_since(before, timers=timers)
    if left:
        gc.collect()  # what only a cycle of garbage holds is not held
        left = await _left_since(before, timers=timers)
    deadline, pause = time.monotonic() + PATIENCE, SHORTEST
    while left and time.monotonic() < deadline:
        pause = min(2 * pause, LONGEST)
        left = await _left_since(before, timers=timers, pause=pause)
    if left:
        raise LeakError(f"{what} left behind:" + "".join(f"\n  - {text}" for text in left))


async def _left_since(before: Inventory, *, timers: bool, pause: float = SHORTEST) -> list[str]:
    left = Inventory.take(timers=timers).since(before)
    if left:
        time.sleep(pause)  # noqa: ASYNC251 - the kernel's turn; on a virtual clock a loop's sleep takes no time
        for _ in range(10):
            await asyncio.sleep(0)
    return left


def _tasks() -> dict[Any, str]:
    found = {}
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        name = getattr(task.get_coro(), "__qualname__", str(task))
        if name.startswith(STANDING):
            continue
        frames = task.get_stack(limit=1)
        where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
        found[task] = f"task {task.get_name()!r}: {name}{where}"
    return found


def _timers() -> dict[Any, str]:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        return {}
    pending = [timer for timer in loop.timers if not timer.cancelled() and timer.when() > loop.time()]
    return {(id(timer), timer): f"timer {timer!r}" for timer in pending}


def _threads() -> dict[Any, str]:
    busy = anyio.to_thread.current_default_thread_limiter().statistics().borrowers
    found: dict[Any, str] = {("work", id(item)): f"work in a worker thread for {item!r}" for item in busy}
    for thread in threading.enumerate():
        if not thread.name.startswith(POOLED):
            found[thread] = f"thread {thread.name!r}"
    return found


def _children() -> dict[Any, str]:
    found = {}
    for child in psutil.Process().children():
        if child.pid in Service.looked_after:
            continue
        try:
            for each in (child, *child.children(recursive=True)):
                command = " ".join(each.cmdline()) or each.name()
                found[each] = f"child process {each.pid}: {command} ({each.status()})"
        except psutil.Error:
            continue  # it ended meanwhile
    return found


def _descriptors() -> dict[Any, str]:
    found: dict[Any, str] = {}
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - a Path would hold the folder's own descriptor longer
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # that of the listing itself
        found[int(name), status.st_dev, status.st_ino] = f"{_kind(status.st_mode)} {_description(int(name))}"
    return found


def _kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "socket"
    return "pipe" if stat.S_ISFIFO(mode) else "descriptor"


def _description(fd: int) -> str:
    for path in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}"):
        try:
            return f"{fd} ({Path(path).readlink()})"
        except OSError:
            continue
    return str(fd)


def _handlers() -> dict[Any, str]:
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    return {
        (logger.name, id(handler)): f"handler {handler!r} of logger {logger.name!r}"
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if not type(handler).__module__.startswith("_pytest.")
    }
