"""Interleaved measurement: contestants take turns in one process, and only ratios of neighbours in time count.

The clock is CPU time, so that what else runs on the machine disturbs little; the collector is off while it runs.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    name: str
    rounds: int
    """Turns that each contestant takes in process."""
    calls: int
    """Calls per turn."""
    socket_rounds: int
    """Turns over sockets and pipes."""
    socket_calls: int
    """Calls per turn over sockets and pipes."""
    load_seconds: float
    """Length of a turn under concurrent load."""
    cycles: int
    """Enable/disable cycles."""
    starts: int
    """Cold starts of each contestant."""


FULL = Effort("full", 150, 40, 9, 150, 1.0, 1000, 9)
QUICK = Effort("quick", 15, 20, 3, 50, 0.3, 100, 2)
TINY = Effort("tiny", 2, 2, 1, 2, 0.05, 3, 1)
"""Proves that the harness runs; its figures mean nothing."""


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector out of the timed part."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def interleave(
    contestants: Mapping[str, Callable[[], Awaitable[object]]], effort: Effort
) -> Mapping[str, Sequence[float]]:
    """CPU seconds per call of each contestant, one figure per turn, in turns A B C A B C ….

    A turn begins with calls that are not timed: else whoever follows a contestant of its own kind finds the
    processor's caches warm, and gains up to a tenth.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    warming = max(effort.calls // 4, 1)
    for call in contestants.values():
        await call()
    gc.collect()
    gc.freeze()  # what stands by now is not looked at again, so that a collection between turns is quick
    try:
        for _ in range(effort.rounds):
            for name, call in contestants.items():
                with collector_off():
                    for _ in range(warming):
                        await call()
                    before = time.process_time()
                    for _ in range(effort.calls):
                        await call()
                    seconds[name].append((time.process_time() - before) / effort.calls)
                await asyncio.sleep(0)  # calls that never wait leave the loop no moment to forget cancelled timers
    finally:
        gc.unfreeze()
    return seconds


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """`ours / theirs`, turn by turn."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def differences(ours: Sequence[float], theirs: Sequence[float], *, scale: float = 1.0) -> list[float]:
    """`(ours - theirs) * scale`, turn by turn."""
    return [(mine - other) * scale for mine, other in zip(ours, theirs, strict=True)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p10(values: Sequence[float]) -> float:
    """The value that a tenth of `values` stays below."""
    return sorted(values)[int(0.1 * (len(values) - 1))]
