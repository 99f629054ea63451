"""Where the second level is, as the type of the config field `url`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from plughost_redis import StoreURL
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SQLITE = "sqlite:///"
_PATTERN = r"^(memory|redis|rediss|valkey|valkeys|unix|sqlite)://|\$\{"


@dataclass(frozen=True, slots=True)
class SQLiteURL:
    """`sqlite:///` and a path: relative to the config file's folder, or absolute with a fourth slash."""

    path: str

    def within(self, folder: Path) -> Path:
        """The file."""
        return folder / self.path

    def __str__(self) -> str:
        return _SQLITE + self.path


def _parse(value: Any) -> Any:
    if isinstance(value, StoreURL | SQLiteURL):
        return value
    if not isinstance(value, str):
        raise ValueError(f"url is text, not {value!r}; write for example 'redis://localhost:6379/0'")  # noqa: TRY004 - pydantic's way
    text = value.strip()
    if not text.startswith("sqlite:"):
        return StoreURL(text)
    path = text.removeprefix(_SQLITE)
    if not text.startswith(_SQLITE) or not path or path.endswith("/") or "?" in path:
        raise ValueError(f"{text!r} names no file; write for example 'sqlite:///cache.db'")
    return SQLiteURL(path)


CacheURL = Annotated[
    StoreURL | SQLiteURL,
    BeforeValidator(_parse),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _PATTERN}),
]
"""`memory://`, the URL of a Redis or Valkey server, or `sqlite:///cache.db`."""
