"""The drain: from a host that serves to one that has finished what it began, step by step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

import anyio
from plughost import Clock


class Phase(StrEnum):
    """How far a drain has come."""

    SERVING = "serving"
    """No drain."""
    GRACE = "grace"
    """Not ready any more: load balancers look away. Whoever calls all the same is served."""
    DRAINING = "draining"
    """New calls are refused; those in flight finish."""
    DRAINED = "drained"
    """New calls are refused; none is in flight."""
    OVERDUE = "overdue"
    """New calls are refused; some did not finish within the limit."""


class Drain:
    """Walks through the phases once, however often and from wherever it is asked to.

    `entered(phase)` is told of every step; `finish(limit)` waits at most so many seconds for the calls in flight, and
    says whether all finished.
    """

    def __init__(
        self, clock: Clock, entered: Callable[[Phase], None], finish: Callable[[float], Awaitable[bool]]
    ) -> None:
        self.phase = Phase.SERVING
        self.refusing = False
        """Whether new calls are refused: `phase` for the path of every call."""
        self._clock = clock
        self._entered = entered
        self._finish = finish
        self._refuse_at = 0.0
        self._waiting: set[anyio.CancelScope] = set()

    async def run(self, *, grace: float, limit: float) -> bool:
        """Serve for `grace` seconds more, then refuse, then wait for the rest. Says whether every call finished.

        A second one joins the first, and the shorter grace counts.
        """
        refuse_at = self._clock.monotonic() + grace
        if self.phase is Phase.SERVING:
            self._refuse_at = refuse_at
            self._enter(Phase.GRACE)
        self._refuse_at = min(self._refuse_at, refuse_at)
        while self.phase is Phase.GRACE and (rest := self._refuse_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(rest)
        if self.phase is Phase.GRACE:
            self._enter(Phase.DRAINING)
        if not self.refusing:
            return False
        finished = False
        with anyio.CancelScope() as waiting:
            self._waiting.add(waiting)
            try:
                finished = await self._finish(limit)
            finally:
                self._waiting.discard(waiting)
        if not waiting.cancel_called:
            self._enter(Phase.DRAINED if finished else Phase.OVERDUE)
        return finished

    def resume(self) -> None:
        """Serve again; whoever waits for the drain waits no more."""
        self._enter(Phase.SERVING)
        for waiting in self._waiting:
            waiting.cancel()

    def _enter(self, phase: Phase) -> None:
        if phase is not self.phase:
            self.phase = phase
            self.refusing = phase not in (Phase.SERVING, Phase.GRACE)
            self._entered(phase)

    def __repr__(self) -> str:
        return f"<Drain {self.phase}>"
