"""The keys of `[plugins.cache]`."""

from __future__ import annotations

from plughost import Duration, PluginConfig, Size
from pydantic import Field

from plughost_cache._shared import LONGEST
from plughost_cache._url import CacheURL


class CacheConfig(PluginConfig):
    """What is kept, for how long, and where."""

    url: CacheURL = CacheURL("memory://")
    """The second level: `memory://` for none, `redis://…` to share it among replicas, or `sqlite:///cache.db`."""
    tools: dict[str, Duration] = Field(default={}, examples=[{"search_*": "30s"}])
    """Tools whose results may be kept, and for how long: globs on the provider's own name, or on `provider/tool`.
    None by default. Name only tools that change nothing: concurrent calls share an execution. The first match is it."""
    resources: dict[str, Duration] = Field(default={}, examples=[{"docs://*": "10m"}])
    """Resources to keep for so long at most even if the server's `ttlMs` is 0 or absent: globs on the URI."""
    lists: Duration | None = None
    """How long to keep lists at most, even if the server's `ttlMs` is 0 or absent. Unset: as `ttlMs` says."""
    default_ttl: Duration | None = None
    """How long to keep lists and resources that come without any `ttlMs`, as from older servers. Unset: not at all."""
    max_ttl: Duration = Field(default=3600.0, gt=0, le=LONGEST)
    """Nothing is kept longer, whatever a server says."""
    max_entries: int = Field(default=10_000, gt=0)
    """Answers in memory."""
    max_bytes: Size = 64 * 2**20
    """Bytes of answers in memory."""
    l1_ttl: Duration = Field(default=5.0, gt=0)
    """With a second level: how long memory is trusted before it is asked again, if a message was lost."""
    stale_while_revalidate: Duration = Field(default=0.0, le=LONGEST)
    """How long after its time an answer still goes to callers while another one fetches anew."""
    stale_if_error: Duration = Field(default=0.0, le=LONGEST)
    """How long after its time an answer still serves when the provider fails."""
    compress_above: Size = 8 * 2**10
    """Size from which answers are compressed in the second level."""
    max_file: Size = 256 * 2**20
    """Bytes of answers in the file of `sqlite:///…`."""
    advertise: bool = False
    """Tell the age of a kept answer in its `_meta`, as `io.plughost/cache: {ageMs}`."""
