"""A call on its way through the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from plughost_dedup import SharedLine

if TYPE_CHECKING:
    from plughost import Call, CallNext, Result

    from plughost_cache._memory import Entry
    from plughost_cache._policy import Rule


class Entrance:
    """The middleware in one pipeline: calls that come by an old one may lead to a provider that was replaced."""

    __slots__ = ("_handler", "left", "number")

    def __init__(self, handler: Callable[[Entrance, Call, CallNext], Awaitable[Result]], number: int) -> None:
        self._handler = handler
        self.number = number
        self.left = False
        """Whether another generation is in force."""

    def answer(self, call: Call, call_next: CallNext) -> Awaitable[Result]:
        return self._handler(self, call, call_next)


class Question:
    """A call that memory has no fresh answer to, the stale one that it may have had, and what became of it."""

    __slots__ = ("call", "entry", "line", "loaded", "now", "result", "rule")

    def __init__(self, call: Call, rule: Rule, entry: Entry | None, now: float) -> None:
        self.call = call
        self.line = SharedLine(call.dispatch)
        """To the client, for as long as it waits."""
        self.rule = rule
        self.entry = entry
        self.now = now
        self.loaded = False
        """Whether it was the one that asked for all who wait."""
        self.result: Result | None = None
        """What the provider answered to this very call."""
