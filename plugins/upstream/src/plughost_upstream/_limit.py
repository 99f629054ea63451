"""The total time limit of a request."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio


class Limit:
    """A number of seconds that stands still while a person is asked. Progress does not extend it (T8).

    Used as a context manager: the block is cancelled when the time is over, and `expired` says so afterwards.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._pauses = 0
        self._scope = anyio.CancelScope()

    @property
    def expired(self) -> bool:
        return self._scope.cancelled_caught

    def __enter__(self) -> Self:
        self._scope.deadline = anyio.current_time() + self._left
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return bool(self._scope.__exit__(kind, error, trace))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock in this block; blocks may overlap."""
        if not self._pauses:
            self._left = self._scope.deadline - anyio.current_time()
            self._scope.deadline = math.inf
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self._scope.deadline = anyio.current_time() + self._left
