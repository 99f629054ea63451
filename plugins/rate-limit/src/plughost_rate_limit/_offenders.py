"""Who is refused most, in bounded memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Offenders(Generic[T]):
    """The names that come most often, at most `size` of them.

    "Space saving" (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data
    Streams", 2005): a newcomer takes the place of the rarest and inherits its count, so a count is never too low.
    """

    def __init__(self, size: int = 100) -> None:
        self._size = size
        self._counts: dict[T, int] = {}

    def add(self, name: T) -> None:
        """Count one more."""
        count = self._counts.get(name)
        if count is None and len(self._counts) >= self._size:
            rarest = min(self._counts, key=self._counts.__getitem__)
            count = self._counts.pop(rarest)
        self._counts[name] = (count or 0) + 1

    def forget(self, name: T | None = None) -> None:
        """Forget one, or all."""
        if name is None:
            self._counts.clear()
        else:
            self._counts.pop(name, None)

    def top(self, count: int) -> list[tuple[T, int]]:
        """The most frequent, first the first."""
        return sorted(self._counts.items(), key=lambda item: -item[1])[:count]
