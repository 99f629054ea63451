"""`StateURL`: where a plugin keeps its state, as the type of a config field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

MEMORY = "memory"
SQLITE = "sqlite"
_USER = re.compile(r"(://[^:@/?#]*):[^/?#]*@")
_PARAMETER = re.compile(r"([?&]\w*password=)[^&]*", re.IGNORECASE)
_BEHIND_THE_HOST = re.compile(r"://[^/?#]+(?=[/?#]).*[#@]", re.DOTALL)


class StateURL:
    """Base of a URL that may hold a password: as text, in dumps and in messages it stands without.

    It is in the host since plugins that have nothing else in common keep state, each in servers of its own kind. A
    subclass names its `schemes` and an `example`, and checks what else there is to check after `super().__init__()`.
    Two of the schemes mean the same wherever they are allowed: `memory://`, and `sqlite:///FILE` (with a fourth slash
    an absolute path). URLs that differ in the password alone are different.

    Raises:
        ValueError: It has another scheme, names no file, or may hold a password that was not found.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes that are known."""
    example: ClassVar[str] = ""
    """What messages propose, in quotation marks."""

    __slots__ = ("_text", "scheme", "shown")

    def __init__(self, text: str) -> None:
        self._text = text
        self.scheme = text.partition("://")[0].lower() if "://" in text else ""
        self.shown = _PARAMETER.sub(r"\1***", _USER.sub(r"\1:***@", text, count=1))
        """The URL without its password."""
        if self.scheme not in self.schemes:
            known = ", ".join(f"{scheme}://" for scheme in self.schemes)
            raise ValueError(f"the scheme {self.scheme!r} is none of {known}; write for example {self.example}")
        if self.scheme == MEMORY:
            if text != "memory://":
                raise ValueError("memory:// takes nothing after it; write 'memory://'")
        elif self.scheme == SQLITE:
            path = self._file
            if not text.startswith("sqlite:///") or not path or path.endswith("/") or "?" in path:
                raise ValueError(f"{self.shown!r} names no file; write for example {self.example}")
        elif _BEHIND_THE_HOST.search(text):
            remedy = "write '#', '/', '?' and '@' in a password as %23, %2F, %3F and %40"
            raise ValueError(f"there is a '#', or an '@' behind the host; {remedy}")

    @property
    def is_memory(self) -> bool:
        """Whether it is `memory://`: state that lives as long as the plugin."""
        return self.scheme == MEMORY

    @property
    def _file(self) -> str:
        return self._text.removeprefix("sqlite:///")

    def file(self, folder: Path) -> Path:
        """The file of `sqlite:///FILE`; a relative path starts from `folder`, that of the config file."""
        return folder / self._file

    def reveal(self) -> str:
        """The URL as it was written, with its password."""
        return self._text

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateURL) and (type(other), other._text) == (type(self), self._text)

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def _made(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError(f"a URL is text; write for example {cls.example}")  # noqa: TRY004 - what pydantic takes
        return cls(value.strip())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(
            cls._made, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        del schema, handler
        return {"type": "string", "pattern": rf"^({'|'.join(cls.schemes)})://|\$\{{"}
