"""Where the store is, as the type of the config field `url`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from plughost_events._database import Database

SQLITE = "sqlite:///"
SCHEMES = ("sqlite", "postgresql", "memory")
EXAMPLE = "write for example 'sqlite:///plughost-events.db' or 'postgresql://user@localhost/plughost'"
_PASSWORD = re.compile(r"(?<=[?&]password=)[^&]*")


class EventsURL:
    """`sqlite:///FILE` (a fourth slash: absolute), `postgresql://…` as libpq knows it, or `memory://`.

    As text, in dumps and messages without its password.

    Raises:
        ValueError: It is none of these.
    """

    __slots__ = ("_text", "scheme", "shown")

    def __init__(self, text: str) -> None:
        self._text = text
        self.scheme = text.partition(":")[0]
        self.shown = text
        """The URL without its password."""
        if self.scheme not in SCHEMES:
            raise ValueError(f"the scheme {self.scheme!r} is none of {', '.join(SCHEMES)}; {EXAMPLE}")
        if self.scheme == "postgresql":
            parts = urlsplit(text)
            if parts.password is not None:
                self.shown = text.replace(f":{parts.password}@", ":***@", 1)
            self.shown = _PASSWORD.sub("***", self.shown)
        elif self.scheme == "sqlite":
            path = text.removeprefix(SQLITE)
            if not text.startswith(SQLITE) or not path or path.endswith("/") or "?" in path:
                raise ValueError(f"{text!r} names no file; {EXAMPLE}")
        elif text != "memory://":
            raise ValueError("memory:// takes nothing after it; write 'memory://'")

    @property
    def is_memory(self) -> bool:
        """Whether it is `memory://`, where events live as long as the plugin."""
        return self.scheme == "memory"

    def database(self, folder: Path, key: bytes, *, create: bool = True) -> Database:
        """A connection to be; a relative path starts from `folder`."""
        if self.scheme == "postgresql":
            from plughost_events._postgresql import PostgreSQL  # noqa: PLC0415 - only who uses it pays

            return PostgreSQL(self._text, key)
        from plughost_events._sqlite import SQLite  # noqa: PLC0415 - as above

        return SQLite(None if self.is_memory else folder / self._text.removeprefix(SQLITE), key, create=create)

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"EventsURL({self.shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventsURL) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source, handler
        made = core_schema.no_info_after_validator_function(cls, core_schema.str_schema(strip_whitespace=True))
        return core_schema.json_or_python_schema(
            json_schema=made,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), made]),
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        del schema, handler
        return {"type": "string", "pattern": rf"^({'|'.join(SCHEMES)}):|\$\{{"}
