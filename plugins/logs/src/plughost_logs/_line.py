"""One line of the log, and its two forms: a document of the Elastic Common Schema, and text for people."""

from __future__ import annotations

import json
import logging
import os
import socket
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from plughost_logs._redaction import Redactor

ECS_VERSION = "9.4.0"
ENDED = "plughost_ended"
"""Attribute of the record about a request that is over: the instance that tells it, and fields of the schema."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", ENDED}
"""What every record has; anything else was given as `extra`."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record, its message, and what it was part of; made where it was logged, rendered where it is written."""

    record: logging.LogRecord
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the schema, dotted, that say which request it belongs to and how that ended."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The process that writes."""

    service: str
    version: str
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)


class ECS:
    """Documents of the Elastic Common Schema, one JSON object a line."""

    def __init__(self, origin: Origin, redactor: Redactor) -> None:
        self._redactor = redactor
        self._constant = {
            "ecs": {"version": ECS_VERSION},
            "service": {"name": origin.service, "version": origin.version, "type": "plughost"},
            "host": {"hostname": origin.host},
        }
        self._pid = origin.pid

    def __call__(self, line: Line) -> bytes:
        record = line.record
        document: dict[str, Any] = {
            "@timestamp": timestamp(record.created),
            "message": self._redactor.text(line.message),
            **self._constant,
            "log": {
                "level": record.levelname.lower(),
                "logger": record.name,
                "origin": {
                    "file": {"name": record.filename, "line": record.lineno},
                    "function": record.funcName or "",
                },
            },
            "process": {"pid": self._pid, "thread": {"name": record.threadName or ""}},
        }
        if labels := extras(record, self._redactor):
            document["labels"] = labels
        if record.exc_info and record.exc_info[0] is not None:
            document["error"] = {
                "type": record.exc_info[0].__qualname__,
                "message": self._redactor.text(str(record.exc_info[1])),
                "stack_trace": self._redactor.text("".join(traceback.format_exception(*record.exc_info)).rstrip()),
            }
        for name, value in line.fields.items():
            put(document, name, value)
        return encoded(document)


class Human:
    """`12:00:01.123 WARNING plughost.calls  message  tool=add request=7`, and a traceback below."""

    SHOWN = {  # noqa: RUF012 - never changed
        "mcp.request.id": "request",
        "mcp.session.id": "session",
        "trace.id": "trace",
        "organization.id": "tenant",
    }
    COLOURS = {"WARNING": 33, "ERROR": 31, "CRITICAL": 31, "DEBUG": 2}  # noqa: RUF012 - never changed

    def __init__(self, redactor: Redactor, *, colours: bool) -> None:
        self._redactor = redactor
        self._colours = colours

    def __call__(self, line: Line) -> bytes:
        record = line.record
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")  # noqa: DTZ006 - people's local time
        level = f"{record.levelname:8}"
        if self._colours and record.levelname in self.COLOURS:
            level = f"\x1b[{self.COLOURS[record.levelname]}m{level}\x1b[0m"
        shown = {short: line.fields[name] for name, short in self.SHOWN.items() if name in line.fields}
        shown |= extras(record, self._redactor)
        tail = "".join(f" {name}={value}" for name, value in shown.items())
        message = printable(f"{self._redactor.text(line.message)}{' ' * bool(tail)}{tail}")
        text = f"{clock}.{int(record.msecs):03} {level} {record.name}: {message}"
        if record.exc_info and record.exc_info[0] is not None:
            lines = self._redactor.text("".join(traceback.format_exception(*record.exc_info)).rstrip())
            text += "".join(f"\n{printable(line)}" for line in lines.splitlines())
        return text.encode(errors="backslashreplace")


def printable(text: str) -> str:
    """On one line, and without what would move the cursor: what a client wrote must not forge a line of the log."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def extras(record: logging.LogRecord, redactor: Redactor) -> dict[str, str]:
    """What was given as `extra`, as text."""
    given = {key: value for key, value in vars(record).items() if key not in STANDARD and value is not None}
    return {key.replace(".", "_"): redactor.value(key, value) for key, value in given.items()}


def encoded(document: Mapping[str, Any]) -> bytes:
    """JSON; a lone surrogate, which UTF-8 cannot have, is written as its escape."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document, default=str, separators=(",", ":")).encode()


def put(document: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted field in nested objects."""
    path, last = _parts(name)
    for part in path:
        document = document.setdefault(part, {})
    document[last] = value


@lru_cache(maxsize=256)  # there are about forty fields, and arguments that the operator names
def _parts(name: str) -> tuple[Sequence[str], str]:
    *path, last = name.split(".")
    return path, last


def timestamp(seconds: float) -> str:
    """A time in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
