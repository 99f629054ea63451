"""The numbers of a cache."""

from __future__ import annotations


class Stats:
    """Counts since the start."""

    __slots__ = ("hits_l1", "hits_l2", "joined", "misses", "passed", "stale", "stored")

    def __init__(self) -> None:
        self.hits_l1 = 0
        self.hits_l2 = 0
        self.stale = 0
        """Answers past their time, while somebody fetched anew or because the provider failed."""
        self.joined = 0
        """Calls that got the answer another one was fetching."""
        self.misses = 0
        """Calls that asked the provider for something to keep."""
        self.passed = 0
        """Calls whose like could not be kept, so that nobody looked."""
        self.stored = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}
