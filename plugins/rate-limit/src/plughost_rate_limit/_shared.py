"""Counts on a Redis or Valkey server, where all replicas agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plughost_redis import RedisBackend

from plughost_rate_limit._algorithms import Algorithm
from plughost_rate_limit._lua import SCRIPTS
from plughost_rate_limit._memory import Verdict, judge

BATCH = 500
"""Keys that a reset looks at in one question."""


class SharedStore:
    """The counts of all identities under all limits, taken all or none in one run of a script."""

    identities = None
    """Only the server knows."""

    def __init__(self, algorithms: Sequence[Algorithm], backend: RedisBackend) -> None:
        self._backend = backend
        self.change(algorithms)

    def change(self, algorithms: Sequence[Algorithm]) -> None:
        """Count by other limits; where algorithm and period stay the same, so do the counts."""
        self._algorithms = tuple(algorithms)
        self._script = self._backend.script(SCRIPTS[algorithms[0].kind])
        self._starts = [self._backend.key(each.kind, str(each.rate.period), "") for each in algorithms]
        self._numbers = [number for each in algorithms for number in each.numbers]

    async def take(self, identity: int, cost: int) -> Verdict:
        """Let a call pass under every limit, or under none (G4); with cost 0, look.

        Raises:
            BackendUnavailable: The server is away.
        """
        answer: list[int] = await self._script(self._keys(identity), [cost, *self._numbers])
        return judge(self._algorithms, list(zip(answer[::2], answer[1::2], strict=True)))

    async def reset(self, identity: int | None = None) -> None:
        """Forget an identity, or everybody.

        Raises:
            BackendUnavailable: The server is away.
        """
        cursor, keys = (0, self._keys(identity)) if identity is not None else await self._page(0)
        while True:
            if keys:
                await self._backend.run(lambda redis: redis.unlink(*keys))  # noqa: B023 - it runs before the next round
            if not cursor:
                return
            cursor, keys = await self._page(cursor)

    async def _page(self, cursor: int) -> tuple[int, list[Any]]:
        """Some keys of this instance, and where to look for more; 0 if there are none."""
        return await self._backend.run(lambda redis: redis.scan(cursor, match=self._backend.key("*"), count=BATCH))

    def _keys(self, identity: int) -> list[str]:
        return [f"{start}{identity:030x}" for start in self._starts]
