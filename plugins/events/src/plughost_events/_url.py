"""Where the store is, as the type of the config field `url`."""

from __future__ import annotations

from pathlib import Path

from plughost import StateURL

from plughost_events._database import Database


class EventsURL(StateURL):
    """`sqlite:///FILE` (a fourth slash: absolute), `postgresql://…` as libpq knows it, or `memory://`.

    As text, in dumps and messages without its password.

    Raises:
        ValueError: It is none of these.
    """

    schemes = ("sqlite", "postgresql", "memory")
    example = "'sqlite:///plughost-events.db' or 'postgresql://user@localhost/plughost'"

    __slots__ = ()

    def database(self, folder: Path, key: bytes, *, create: bool = True) -> Database:
        """A connection to be; a relative path starts from `folder`."""
        if self.scheme == "postgresql":
            from plughost_events._postgresql import PostgreSQL  # noqa: PLC0415 - only who uses it pays

            return PostgreSQL(self.reveal(), key)
        from plughost_events._sqlite import SQLite  # noqa: PLC0415 - as above

        return SQLite(None if self.is_memory else self.file(folder), key, create=create)
