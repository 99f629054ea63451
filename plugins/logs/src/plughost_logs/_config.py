"""The keys of `[plugins.logs]`."""

from __future__ import annotations

import re
from typing import Literal

from plughost import Duration, PluginConfig, Size
from pydantic import Field, field_validator

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class LogsConfig(PluginConfig):
    """What is written, where, and how."""

    format: Literal["auto", "ecs", "human"] = "auto"
    """`ecs` writes JSON in the Elastic Common Schema, `human` a line for people; `auto` is for people on a terminal."""
    path: str = ""
    """File to append to, relative to the config file; standard error if empty. Several processes may share it."""
    max_size: Size = 64 * 2**20
    """Size from which on the file is rotated."""
    backups: int = Field(default=5, ge=0, le=1000)
    """Rotated files to keep: `PATH.1` is the newest. With 0 the file is emptied."""
    level: Level | None = None
    """Level of the root logger; `[host] log_level` if absent."""
    calls: bool = True
    """Write a line for each request, in the logger `plughost.calls`."""
    sample: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that went well, and quickly, which get a line; all others always do."""
    slow: Duration = 1.0
    """How long a request takes from which on it always gets its line."""
    arguments: tuple[str, ...] = ()
    """Names of arguments that the line of a tool call shows. None is shown that is not named (G6)."""
    redact: tuple[str, ...] = ()
    """Regular expressions of what else is blanked in every line, besides tokens, passwords and the like."""
    replace: bool = True
    """Take the place of the root logger's handlers and of other loggers' for a console; or stand beside them."""
    queue: int = Field(default=10_000, ge=1)
    """Most lines that wait to be written. What comes on top is lost, counted, and owned up to in the log."""

    @field_validator("redact")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"redact has {pattern!r}, which is no regular expression: {error}") from None
        return patterns
