"""A two-level cache for Plughost: memory, and Redis or SQLite behind it, that never mixes callers."""

from __future__ import annotations

from plughost_cache._config import CacheConfig
from plughost_cache._plugin import CachePlugin, ClearParameters
from plughost_cache._url import CacheURL

__all__ = ["CacheConfig", "CachePlugin", "CacheURL", "ClearParameters"]
