"""Counts in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from plughost import Clock

from plughost_rate_limit._algorithms import Algorithm, Step

SHARDS = 1024
"""Parts of a table: what is swept at once is a thousandth of it."""


class Verdict(NamedTuple):
    """What becomes of a call under several limits."""

    limit: str
    """The limit that speaks: the one to wait for longest, or else the one with the least left."""
    remaining: int
    wait: int
    """Microseconds until the same call passes if nobody else calls; 0 if it passes now."""


def judge(algorithms: Sequence[Algorithm], steps: Sequence[tuple[int, int]]) -> Verdict:
    """The verdict from what each limit says of a call: remaining and wait."""
    waits = [wait for _, wait in steps]
    longest = max(waits)
    at = waits.index(longest) if longest else min(range(len(steps)), key=lambda index: steps[index][0])
    return Verdict(algorithms[at].rate.text, steps[at][0], longest)


class Table:
    """Identity → state, as one integer each, in many small dicts.

    Each look at it visits one dict in turn and, where the time has come, throws out who is idle there. So nobody stays
    longer than that while anybody calls, no call sweeps more than a thousandth, and there is no timer and no task.
    """

    __slots__ = ("_due", "_hand", "shards")

    def __init__(self) -> None:
        self.shards: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self._due = [0] * SHARDS
        self._hand = 0

    def visit(self, now: int, every: int, idle: Callable[[int, int], bool]) -> None:
        """Sweep the next shard, if its last sweep was `every` microseconds ago."""
        self._hand = hand = (self._hand + 1) % SHARDS
        if now >= self._due[hand]:
            self._due[hand] = now + every
            if shard := self.shards[hand]:
                self.shards[hand] = {key: state for key, state in shard.items() if not idle(state, now)}

    def __len__(self) -> int:
        return sum(map(len, self.shards))


class MemoryStore:
    """The counts of all identities under all limits, taken all or none."""

    def __init__(self, algorithms: Sequence[Algorithm], clock: Clock) -> None:
        self._clock = clock
        self._tables: dict[tuple[str, int], Table] = {}
        self.change(algorithms)

    def change(self, algorithms: Sequence[Algorithm]) -> None:
        """Count by other limits; where algorithm and period stay the same, so do the counts."""
        self._algorithms = tuple(algorithms)
        keys = [(each.kind, each.rate.period) for each in algorithms]
        self._tables = {key: self._tables.get(key) or Table() for key in keys}
        self._pairs = tuple(zip(self._algorithms, self._tables.values(), strict=True))

    async def take(self, identity: int, cost: int) -> Verdict:
        """Let a call pass under every limit, or under none (G4); with cost 0, look."""
        now = int(self._clock.monotonic() * 1e6)
        shard = identity % SHARDS
        steps: list[Step] = []
        passes = True
        for algorithm, table in self._pairs:
            step = algorithm.take(table.shards[shard].get(identity, 0), cost, now)
            steps.append(step)
            passes = passes and not step.wait
            table.visit(now, algorithm.lifetime, algorithm.idle)
        if passes and cost:
            for (_, table), step in zip(self._pairs, steps, strict=True):
                table.shards[shard][identity] = step.state
        if len(steps) == 1:
            step = steps[0]
            return Verdict(self._algorithms[0].rate.text, step.remaining, step.wait)
        return judge(self._algorithms, [(step.remaining, step.wait) for step in steps])

    async def reset(self, identity: int | None = None) -> None:
        """Forget an identity, or everybody."""
        for table in self._tables.values():
            for shard in table.shards:
                if identity is None:
                    shard.clear()
                else:
                    shard.pop(identity, None)

    @property
    def identities(self) -> int:
        """How many are remembered: whoever called lately."""
        return max(map(len, self._tables.values()))
