"""What is known of tokens, by their digests: whom the good ones prove, and which are bad. Bounded, holds no token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from plughost_auth._claims import Reason, Verified

T = TypeVar("T")

BAD_KNOWN = 1_000
"""Bad tokens that are remembered."""
BAD_FOR = 10.0
"""Seconds a bad token is taken for bad without another look."""


class _Bounded(Generic[T]):
    """Digest → value; the oldest goes first."""

    def __init__(self, size: int) -> None:
        self.entries: dict[bytes, tuple[float, T]] = {}
        self._size = size

    def put(self, digest: bytes, value: T, until: float) -> None:
        self.entries.pop(digest, None)
        while len(self.entries) >= self._size:
            del self.entries[next(iter(self.entries))]
        self.entries[digest] = until, value


class TokenCache:
    """Good and bad tokens apart, so that nobody who invents bad ones drives out the good."""

    def __init__(self, *, size: int, keep: float, now: Callable[[], float]) -> None:
        self._good: _Bounded[Verified] = _Bounded(size)
        self._bad: _Bounded[Reason] = _Bounded(BAD_KNOWN)
        self._keep = keep
        self._now = now

    def __len__(self) -> int:
        return len(self._good.entries)

    def get(self, digest: bytes) -> Verified | None:
        """Who that is; `None` if nobody knows any more."""
        entry = self._good.entries.get(digest)
        if entry is None:
            return None
        if self._now() < entry[0]:
            return entry[1]
        del self._good.entries[digest]
        return None

    def why_bad(self, digest: bytes) -> Reason | None:
        """Why the token was refused a moment ago."""
        entry = self._bad.entries.get(digest)
        return entry[1] if entry is not None and self._now() < entry[0] else None

    def keep(self, digest: bytes, verified: Verified) -> None:
        """Remember a good token until it expires, or for as long as one is remembered."""
        self._good.put(digest, verified, min(verified.expires, self._now() + self._keep))

    def keep_bad(self, digest: bytes, reason: Reason) -> None:
        """Remember a bad token for a moment."""
        self._bad.put(digest, reason, self._now() + BAD_FOR)

    def clear(self) -> int:
        """Forget all; says how many good ones were known."""
        known = len(self)
        self._good.entries.clear()
        self._bad.entries.clear()
        return known
