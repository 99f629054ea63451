"""Where the second level is, as the type of the config field `url`."""

from __future__ import annotations

from plughost_redis import StoreURL


class CacheURL(StoreURL):
    """`memory://`, the URL of a Redis or Valkey server, or `sqlite:///cache.db` (a fourth slash: absolute)."""

    schemes = (*StoreURL.schemes, "sqlite")
    example = "'redis://localhost:6379/0' or 'sqlite:///cache.db'"

    __slots__ = ()
