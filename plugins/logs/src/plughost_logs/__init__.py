"""Structured logs: every line of the process, tied to its request, without secrets, and written by nobody who waits."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from random import random
from typing import TYPE_CHECKING, Any

import anyio
from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    HealthCheck,
    LineWriter,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginConfig,
    Result,
    StandardError,
    hookimpl,
)

from plughost_logs._call import CURRENT, arguments, correlation, ending
from plughost_logs._config import Level, LogsConfig
from plughost_logs._file import RotatedFile
from plughost_logs._line import ECS, ENDED, Human, Line, Origin
from plughost_logs._loggers import LOGGERS, Claim
from plughost_logs._redaction import Redactor

if TYPE_CHECKING:
    from plughost import Host

__all__ = ["LogsConfig", "LogsPlugin"]

FLUSH = 5.0
"""Seconds in which what waits is written at the end."""

logger = logging.getLogger("plughost.logs")
calls_logger = logging.getLogger("plughost.calls")
_lost = metrics.get_meter("plughost.logs").create_counter(
    "plughost.logs.lost", unit="{line}", description="Lines of the log that were lost, since too many waited."
)


class LogsHandler(logging.Handler):
    """Hands records to the writer, with what they are part of. Lines of requests are those of its own instance."""

    def __init__(self, writer: LineWriter[Line], instance: str) -> None:
        super().__init__()
        self._writer = writer
        self._instance = instance

    def emit(self, record: logging.LogRecord) -> None:
        try:
            whose, ended = record.__dict__.get(ENDED, (self._instance, {}))
            if whose == self._instance:
                self._writer.put(Line(record, record.getMessage(), {**correlation(CURRENT.get()), **ended}))
        except Exception:  # noqa: BLE001 - what is logged must not break who logs
            self.handleError(record)


class LogsPlugin(MCPPlugin[LogsConfig]):
    """Takes the root logger over, and writes a line for each request."""

    async def register(self, host: Host) -> None:
        config = self.config
        self._now = host.clock.monotonic
        folder = host.config.source.parent if host.config.source else Path()
        sink = (
            RotatedFile(folder / config.path, max_size=config.max_size, backups=config.backups)
            if config.path
            else StandardError()
        )
        self._redactor = redactor = Redactor(config.redact)
        origin = Origin(host.settings.name, host.version)
        people = not config.path and sys.stderr.isatty()
        human = config.format == "human" or (config.format == "auto" and people)
        form = Human(redactor, colours=people) if human else ECS(origin, redactor)
        self.writer: LineWriter[Line] = LineWriter(sink, form, partial(_confess, form), limit=config.queue)
        self.handler = LogsHandler(self.writer, self.name)
        self._claim = Claim(self.name, self.handler, config.level, config.replace)
        LOGGERS.enter(self._claim)

    async def unregister(self) -> None:
        """Write what waits, and give the root logger back."""
        written = await anyio.to_thread.run_sync(self.writer.flush, FLUSH)
        LOGGERS.leave(self._claim)
        if not (await anyio.to_thread.run_sync(self.writer.close, FLUSH if written else 0.0)):
            logger.error("%s: %d lines were not written within %s s", self.name, self.writer.waiting, FLUSH)

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        LOGGERS.displace()  # the servers of this generation are imported by now
        return [Middleware(self.log, Phase.OBSERVE, after=("tracing", "metrics"))]

    async def log(self, call: Call, call_next: CallNext) -> Result:
        """Tie all that is logged inside to the call, and log how it ended."""
        begin = self._now()
        mark = CURRENT.set(call)
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = await call_next(call)
            return result
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                self._log_end(call, result, error, self._now() - begin)
            except Exception:
                logger.warning("%s: the line of a request is lost", self.name, exc_info=True)
            CURRENT.reset(mark)

    def _log_end(self, call: Call, result: Result | None, error: BaseException | None, seconds: float) -> None:
        config = self.config
        slow = seconds >= config.slow
        well = error is None and not slow and result is not None and result.get("isError") is not True
        if not config.calls or (well and config.sample < 1 and random() >= config.sample):  # noqa: S311 - dice
            return
        if well and not calls_logger.isEnabledFor(logging.INFO):  # asked before the line is made: most go well
            return
        level, message, fields = ending(call, result, error, seconds, slow=slow)
        if calls_logger.isEnabledFor(level):
            if config.arguments:
                given = arguments(call, config.arguments)
                for name, value in given.items():
                    label = name.replace(".", "_")  # labels are flat
                    fields[f"labels.argument_{label}"] = self._redactor.value(name, value)
            calls_logger.log(level, "%s", message, extra={ENDED: (self.name, fields)})

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("writing", self.check)]

    async def check(self) -> None:
        """Raises if the last lines could not be written."""
        if (failure := self.writer.failure) is not None:
            raise failure

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Lines written, waiting and lost."),
            Operation(
                "level", self.set_level, parameters=SetLevel, changes=True, summary="Change a logger's level for now."
            ),
        ]

    async def show(self, _: object) -> dict[str, Any]:
        """Lines written, waiting and lost."""
        writer = self.writer
        return {"written": writer.written, "waiting": writer.waiting, "lost": writer.lost}

    async def set_level(self, wanted: SetLevel) -> dict[str, str]:
        """Change the level of a logger until the host restarts."""
        logger = logging.getLogger(wanted.logger)
        logger.setLevel(wanted.level)
        return {"logger": logger.name, "level": wanted.level}


class SetLevel(PluginConfig):
    """A level for a logger."""

    level: Level
    """The level."""
    logger: str = ""
    """The logger's name; the root logger if empty."""


def _confess(form: ECS | Human, count: int) -> bytes:
    """The line that owns up to lines that were lost."""
    _lost.add(count)
    record = logging.makeLogRecord({"name": "plughost.logs", "levelname": "ERROR", "levelno": logging.ERROR})
    return form(Line(record, f"{count} lines were lost: too many waited, or they could not be written"))
