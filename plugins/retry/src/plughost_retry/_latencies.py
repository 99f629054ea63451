"""How long calls take: quantiles of a stream of durations, in bounded memory."""

from __future__ import annotations

import math

ACCURACY = 0.05
"""Largest relative error of a quantile."""
SHORTEST, LONGEST = 1e-4, 1e4
"""Seconds; what is shorter or longer counts as this."""
MEMORY = 1000
"""Calls after which older ones begin to count half."""
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_SCALE = math.log(_GAMMA)


class Latencies:
    """A histogram whose buckets grow by a constant factor, so that every quantile is right to within 5 %.

    After Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees"
    (VLDB 2019). At most 185 buckets; all counts are halved now and then, so that it follows what changes.
    """

    def __init__(self) -> None:
        self.count = 0.0
        self._buckets: dict[int, float] = {}

    def add(self, seconds: float) -> None:
        """Count a duration."""
        index = math.ceil(math.log(min(max(seconds, SHORTEST), LONGEST)) / _SCALE)
        self._buckets[index] = self._buckets.get(index, 0.0) + 1
        self.count += 1
        if self.count >= 2 * MEMORY:
            self._buckets = {index: count / 2 for index, count in self._buckets.items() if count > 1 / MEMORY}
            self.count = sum(self._buckets.values())

    def quantile(self, share: float) -> float:
        """The duration that `share` (from 0 to 1) of the calls do not exceed.

        Raises:
            ValueError: There were none.
        """
        if not self._buckets:
            raise ValueError("no call has been counted yet")
        rank = share * self.count
        seen = 0.0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            if seen >= rank:
                break
        return float(2 * _GAMMA**index / (_GAMMA + 1))
