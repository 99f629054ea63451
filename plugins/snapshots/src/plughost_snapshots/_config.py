"""The keys of `[plugins.snapshots]`."""

from __future__ import annotations

from plughost import Duration, PluginConfig
from pydantic import Field, field_validator


class SnapshotsConfig(PluginConfig):
    """Whose state is kept, and how often."""

    every: int = Field(default=1000, ge=1)
    """A snapshot is taken each time a stream has so many events more."""
    seconds: Duration | None = Field(default=None, gt=0)
    """Also take one of each stream that has new events, this often; by default only `every` counts."""
    reducers: dict[str, str] = Field(default_factory=lambda: {"activity": "*"})
    """Reducer (`activity`, or `module:function`) → glob of the streams whose state it makes."""

    @field_validator("reducers")
    @classmethod
    def _names(cls, reducers: dict[str, str]) -> dict[str, str]:
        for name in reducers:
            module, colon, function = name.partition(":")
            if name != "activity" and not (module and colon and function):
                raise ValueError(f"the reducer {name!r} is neither 'activity' nor 'module:function'")
        return reducers
