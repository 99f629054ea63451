"""Structured errors: each error that leaves the host says what kind it is, and whether to try again.

    from plughost_errors import ErrorKind, ErrorTable, catalogue

`ErrorTable` is shared with other plugins, which map their exceptions in it; `catalogue()` lists all codes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mcp.shared.exceptions import MCPError
from opentelemetry import metrics
from plughost import Call, CallNext, MCPPlugin, Middleware, Phase, PluginConfig, Result, hookimpl

from plughost_errors._catalogue import CodeRow, ErrorType, catalogue
from plughost_errors._structure import structured, translated
from plughost_errors._table import ErrorKind, ErrorTable

if TYPE_CHECKING:
    from plughost import Host

__all__ = ["CodeRow", "ErrorKind", "ErrorTable", "ErrorType", "ErrorsConfig", "ErrorsPlugin", "catalogue"]

logger = logging.getLogger("plughost.errors")


class ErrorsConfig(PluginConfig):
    """The keys of `[plugins.errors]`."""

    internal_message: str = "Internal server error"
    """All that a client reads about an exception nobody foresaw, besides the request id."""


class ErrorsPlugin(MCPPlugin[ErrorsConfig]):
    """Gives every error a type, a time, the request id and retry advice; lets no exception's text out (G7)."""

    provides = (ErrorTable,)

    def __init__(self, config: ErrorsConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.table = ErrorTable()
        self._count = metrics.get_meter("plughost.errors").create_counter(
            "plughost.errors.count", unit="{error}", description="Requests answered with an error, by type."
        )

    async def register(self, host: Host) -> None:
        self._clock = host.clock
        host.provide(ErrorTable, self.table)

    async def reconfigure(self, config: ErrorsConfig) -> bool:
        self.config = config  # in place: a new instance would lose what other plugins put into the table
        return True

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.answer, Phase.OBSERVE, after=("tracing", "metrics", "logs", "events"))]

    async def answer(self, call: Call, call_next: CallNext) -> Result:
        """Hand on the result, a tool's own failure too; raise every error with its structure."""
        try:
            return await call_next(call)
        except asyncio.CancelledError:
            self._count.add(1, {"error.type": ErrorType.CANCELLED.value})
            raise
        except Exception as error:
            raise self._structured(call, error) from error

    def _structured(self, call: Call, error: Exception) -> MCPError:
        kind = self.table.find(error)
        if not isinstance(error, MCPError):
            _log(call, error, expected=kind is not None)
        answer = structured(
            translated(error, kind, self.config.internal_message),
            kind,
            method=call.method,
            target=call.target,
            request_id=call.request_id,
            now=self._clock.time(),
        )
        self._count.add(1, {"error.type": answer.data["type"]})
        return answer


def _log(call: Call, error: Exception, *, expected: bool) -> None:
    logger.log(
        logging.DEBUG if expected else logging.ERROR,
        "request %s (%r) raised %s",
        call.request_id,
        call,
        type(error).__name__,
        exc_info=error,
        extra={"method": call.method, "request_id": call.request_id, "session_id": call.connection.session_id},
    )
