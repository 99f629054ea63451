"""`StoreURL`: where a plugin keeps its state, as the type of a config field."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

MEMORY = "memory"
SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""The scheme in a URL → the same in the words of the client, which speaks to both servers alike."""
OPTIONS = frozenset({"client_name", "db", "timeout"})
"""What may stand behind the question mark, besides `ssl_*`."""


class StoreURL:
    """`memory://`, or the URL of a Redis or Valkey server; as text, in dumps and messages without its password.

    `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://` (TLS), `unix:///path.sock?db=0`. `?timeout=0.25` is the
    time limit of one question, in seconds; `ssl_ca_certs` and the like are the client's. URLs that differ in the
    password alone are different.

    Raises:
        ValueError: It is none of these.
    """

    __slots__ = ("_text", "shown", "timeout")

    def __init__(self, text: str) -> None:
        self._text = text
        self.timeout: float | None = None
        """The time limit that the URL names."""
        parts = urlsplit(text)
        self.shown = text
        """The URL without its password."""
        if parts.scheme == MEMORY:
            if text.rstrip("/") != f"{MEMORY}:":
                raise ValueError("memory:// takes nothing after it; write 'memory://'")
            return
        if parts.scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in (MEMORY, *SCHEMES))
            raise ValueError(
                f"the scheme {parts.scheme!r} is none of {known}; write for example 'redis://localhost:6379/0'"
            )
        try:
            _ = parts.port
        except ValueError:  # its text may hold a part of the password
            remedy = "write '#', '/' and '?' in a password as %23, %2F and %3F"
            raise ValueError(f"what follows the host is no port; if that is not what was meant, {remedy}") from None
        if parts.password is not None:
            self.shown = text.replace(f":{parts.password}@", ":***@", 1)
        self._check(parts.scheme, parts.hostname, parts.path, parts.query)

    def _check(self, scheme: str, hostname: str | None, path: str, query: str) -> None:
        if scheme == "unix" and not path:
            raise ValueError("unix:// needs the path of a socket; write for example 'unix:///run/redis.sock?db=0'")
        if scheme != "unix":
            if not hostname:
                raise ValueError(f"{scheme}:// needs a host; write for example '{scheme}://localhost:6379/0'")
            if path.strip("/") and not path.strip("/").isdecimal():
                raise ValueError(f"the path {path!r} is no number of a database; write for example '/0'")
        options = parse_qs(query, keep_blank_values=True)
        for option in options:
            if option not in OPTIONS and not option.startswith("ssl_"):
                known = ", ".join(sorted(OPTIONS))
                raise ValueError(f"the option {option!r} is unknown; there are {known} and ssl_*")
        if "timeout" in options:
            try:
                self.timeout = float(options["timeout"][-1])
            except ValueError:
                self.timeout = 0.0
            if not 0 < self.timeout < 60:
                raise ValueError("timeout is a number of seconds between 0 and 60; write for example '?timeout=0.25'")

    @property
    def is_memory(self) -> bool:
        """Whether it is `memory://`, where no server is involved."""
        return self._text.startswith(f"{MEMORY}:")

    def reveal(self) -> str:
        """The URL as it was written, with its password."""
        return self._text

    def for_client(self) -> str:
        """The URL as the client understands it, with its password."""
        scheme, rest = self._text.split("://", 1)
        base, _, query = rest.partition("?")
        kept = "&".join(option for option in query.split("&") if option and not option.startswith("timeout="))
        return f"{SCHEMES[scheme.lower()]}://{base}{'?' if kept else ''}{kept}"

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"StoreURL({self.shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreURL) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(
            cls._made, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        )

    @classmethod
    def _made(cls, value: Any) -> StoreURL:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("a URL is text; write for example 'redis://localhost:6379/0'")  # noqa: TRY004 - what pydantic takes
        return cls(value.strip())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        del schema, handler
        return {"type": "string", "pattern": rf"^({'|'.join((MEMORY, *SCHEMES))})://|\$\{{"}
