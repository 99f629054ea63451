"""The table that maps exceptions to errors. Other plugins add theirs to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from plughost import ErrorCode
from pydantic import ValidationError

from plughost_errors._catalogue import ErrorType


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What an exception becomes. `message` is all that a client sees of it: nothing of the exception leaves (G7).

    An `MCPError` has a code and a message of its own; those stay, and only `type` and `retryable` are taken.
    """

    type: str
    code: int
    message: str
    _: KW_ONLY
    retryable: bool = False


class ErrorTable:
    """Exception type → `ErrorKind`. The most derived type that is in the table decides.

    A plugin adds its exceptions in `register()` and takes them out in `unregister()`:

        async def register(self, host):
            table = host.get(ErrorTable)
            self._forget = table.add(QuotaError, ErrorKind("quota", -32005, "The monthly quota is used up"))

        async def unregister(self):
            self._forget()

    It says `requires = (ErrorTable,)`, so that the host registers it after the table.
    """

    def __init__(self) -> None:
        self._kinds: dict[type[Exception], list[ErrorKind]] = {}
        self.add(ValidationError, ErrorKind(ErrorType.VALIDATION, INVALID_PARAMS, "Invalid request parameters"))
        self.add(TimeoutError, ErrorKind(ErrorType.TIMEOUT, ErrorCode.TIMEOUT, "The call timed out", retryable=True))
        self.add(
            ConnectionError,
            ErrorKind(ErrorType.UPSTREAM, ErrorCode.UPSTREAM_UNAVAILABLE, "A connection was lost", retryable=True),
        )

    def add(self, exception: type[Exception], kind: ErrorKind) -> Callable[[], None]:
        """Map `exception` and what derives from it. The latest one added counts, until its removal is called.

        Returns:
            The removal of exactly this entry: a plugin that is replaced adds again before the old one takes out.

        Raises:
            ValueError: The type is `Exception` or `MCPError` itself, which would hide all others.
        """
        if exception in {Exception, MCPError}:
            raise ValueError(f"{exception.__name__} would map every error; add the exception types that you raise")
        self._kinds.setdefault(exception, []).append(kind)

        def remove() -> None:
            kinds = self._kinds.get(exception, [])
            kinds[:] = [item for item in kinds if item is not kind]
            if not kinds:
                self._kinds.pop(exception, None)

        return remove

    def find(self, error: BaseException) -> ErrorKind | None:
        """The kind of an exception, or `None` if nobody mapped it."""
        for ancestor in type(error).__mro__:
            if kinds := self._kinds.get(ancestor):
                return kinds[-1]
        return None

    def __repr__(self) -> str:
        return f"<ErrorTable {len(self._kinds)} types>"
