"""What can go wrong with a store.

StoreError            Base of these.
  VersionConflict     Raised when a stream is not at the version that the writer expected.
  StoreUnavailable    Raised when the database does not answer, or refuses.
  StoreFormatError    Raised when the tables are of another kind than this code or this config.
"""

from __future__ import annotations

from plughost import PlughostError


class StoreError(PlughostError):
    """Base of what a store raises; itself where a store cannot be used as it is configured."""


class VersionConflict(StoreError):  # noqa: N818 - the field's word
    """Raised when a stream is not at the version that the writer expected; nothing was stored."""

    def __init__(self, stream: str, expected: int, version: int) -> None:
        self.stream = stream
        self.expected = expected
        self.version = version
        super().__init__(
            f"stream {stream!r} is at version {version}, not at {expected}; read what is new, decide, append again"
        )


class StoreUnavailable(StoreError):  # noqa: N818 - a state, not a mistake
    """Raised when the database does not answer, or refuses. What was to be stored may yet be, or may have been."""


class StoreFormatError(StoreError):
    """Raised when the tables are of another format, or the chain was begun with another key."""
