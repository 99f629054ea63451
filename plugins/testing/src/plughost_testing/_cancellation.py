"""Cancels a coroutine at an await point of one's choice."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


class Interruption:
    """Runs a coroutine in the current task, and cancels the task when it waits for the `at`-th time.

    `where` is the source line that waited then, `None` if the coroutine ended before.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int) -> None:
        self._coroutine = coroutine
        self._at = at
        self.where: str | None = None

    @types.coroutine
    def run(self) -> Generator[Any, Any, Any]:
        """Await this in a task of its own."""
        advance, value, waits = self._coroutine.send, None, 0
        while True:
            try:
                awaited = advance(value)
            except StopIteration as end:
                return end.value
            waits += 1
            if waits == self._at:
                self.where = innermost(self._coroutine)
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                advance, value = self._coroutine.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001 - every exception goes on to whom it was meant for
                advance, value = self._coroutine.throw, error


def innermost(coroutine: Any) -> str:
    """The source line at which a suspended coroutine waits, as deep as can be seen."""
    frame = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None) or frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
