"""Runs checks side by side, each within its time limit, once for everybody who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from plughost import Clock, HealthCheck

from plughost_health._state import Finding

NamedCheck = tuple[str, HealthCheck]


class Checks:
    """All checks, run at most once per `cache` seconds however many ask.

    A check that ignores its cancellation is left behind: it blocks nobody, and is not started again while it hangs.
    """

    def __init__(self, clock: Clock, checks: Callable[[], Iterable[NamedCheck]], *, cache: float, limit: float) -> None:
        self.cache = cache
        self.limit = limit
        self._clock = clock
        self._checks = checks
        self._findings: Sequence[Finding] = ()
        self._fresh_until = float("-inf")
        self._run: asyncio.Task[Sequence[Finding]] | None = None
        self._hanging: dict[str, asyncio.Task[None]] = {}

    @property
    def remaining(self) -> float:
        """Seconds for which what was found is told again; 0 if the next answer is a new look."""
        return max(0.0, self._fresh_until - self._clock.monotonic())

    async def findings(self) -> Sequence[Finding]:
        """What the checks found, a moment ago or now. One who gives up takes the answer from nobody else."""
        if self.remaining:
            return self._findings
        if self._run is None:
            self._run = asyncio.create_task(self._run_all())
        return await asyncio.shield(self._run)

    def close(self) -> None:
        """Cancel whatever runs."""
        for task in (self._run, *self._hanging.values()):
            if task is not None:
                task.cancel()

    async def _run_all(self) -> Sequence[Finding]:
        try:
            self._findings = await asyncio.gather(*(self._look(name, check) for name, check in self._known()))
            self._fresh_until = self._clock.monotonic() + self.cache
            return self._findings
        finally:
            self._run = None

    def _known(self) -> Iterable[NamedCheck]:
        try:
            return list(self._checks())
        except Exception as error:  # noqa: BLE001 - a plugin whose hook raises is a finding, and no end of the probe
            return [("check", HealthCheck("check", partial(_raise, error)))]

    async def _look(self, name: str, check: HealthCheck) -> Finding:
        begin = self._clock.monotonic()
        reason = await self._reason(name, check)
        seconds = self._clock.monotonic() - begin
        return Finding(name, reason=reason, critical=check.critical, seconds=seconds)

    async def _reason(self, name: str, check: HealthCheck) -> str:
        """What is wrong; empty if nothing is."""
        if name in self._hanging:
            return "still hangs since an earlier look"
        limit = min(check.timeout, self.limit)
        task = self._hanging[name] = asyncio.create_task(_call(check))
        task.add_done_callback(partial(self._ended, name))
        try:
            done, _ = await asyncio.wait({task}, timeout=limit)
        finally:
            task.cancel()
        if not done:
            return f"no answer within {limit:g} s"
        if task.cancelled():
            return "cancelled"
        error = task.exception()
        return f"{type(error).__name__}: {error}" if error is not None else ""

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._hanging[name]
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits for it any more


async def _call(check: HealthCheck) -> None:
    await check.check()


async def _raise(error: Exception) -> None:
    raise error
