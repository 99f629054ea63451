"""The lock file: pins as TOML that can be read in a review. A file that cannot be read is never an empty one (P3)."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plughost_pinning._pin import Key, Pin

VERSION = 1
LARGEST = 64 * 2**20
"""Bytes that a lock file may have."""
HEADER = """\
# Definitions that were approved. Review a change of this file like a change of code.
# `plughost pins diff` says what waits for approval, `plughost pins approve` writes it here.
"""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)
"""Characters that Python takes for printable, and nobody sees."""
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


class LockFileError(Exception):
    """Raised when the lock file cannot be read or written; the message says why."""


class UnwritableError(LockFileError):
    """Raised when the lock file can be read, as far as it is there, and not be written."""


@dataclass(frozen=True, slots=True)
class Pins:
    """What the file says: pins, and the providers that were looked at, also those with nothing to pin."""

    pins: Mapping[Key, Pin] = field(default_factory=dict)
    providers: frozenset[str] = frozenset()


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; `None` if there is none.

    Raises:
        LockFileError: Nobody can say.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockFileError(f"{path} cannot be read: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def read(path: Path) -> Pins | None:
    """What the file says; `None` if there is none.

    Raises:
        LockFileError: It cannot be read, or is not such a file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockFileError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if len(data) > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        return _parse(tomllib.loads(data.decode()))
    except (ValueError, RecursionError) as error:
        raise LockFileError(
            f"{path} is corrupt: {error}; restore it, or delete it and approve everything again"
        ) from error


def change(path: Path, work: Callable[[Pins], Pins]) -> Pins:
    """Replace what the file says by what `work` makes of it, in one step, one process at a time.

    Raises:
        LockFileError: It cannot be read, or is not such a file.
        UnwritableError: It cannot be written. It is as before.
    """
    try:
        with _alone(path.parent):
            pins = work(read(path) or Pins())
            _write(path, dumps(pins))
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written: {error.strerror}") from error
    return pins


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder: one on the file would go with it when it is replaced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


# -- TOML -------------------------------------------------------------------------------------------------------------


def dumps(pins: Pins) -> str:
    """The text of the file, in an order of its own, so that a diff shows what changed and nothing else."""
    parts = [f"{HEADER}version = {VERSION}\n"]
    for provider in sorted(pins.providers | {key.provider for key in pins.pins}):
        parts.append(f"\n[{_name('providers')}.{_name(provider)}]\n")
        for key in sorted(key for key in pins.pins if key.provider == provider):
            found = pins.pins[key]
            lines = [f"\n[providers.{_name(provider)}.{key.kind}.{_name(key.name)}]", f"sha256 = {_text(found.sha256)}"]
            if found.description:
                lines.append(f"description = {_text(found.description)}")
            if found.inputs:
                lines.append(f"inputs = [{', '.join(map(_text, found.inputs))}]")
            if found.fields:
                fields = (f"{_name(name)} = {_text(value)}" for name, value in found.fields.items())
                lines.append(f"fields = {{ {', '.join(fields)} }}")
            parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _name(key: str) -> str:
    return key if _BARE.match(key) else _text(key)


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{legible(escaped)}"'


def legible(text: str) -> str:
    """A text in which nothing is hidden from whoever reads it: what cannot be seen is written as its number."""
    return "".join(map(_character, text))


def _character(character: str) -> str:
    if character.isprintable() and not _UNSEEN.match(character):
        return character
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _parse(document: Mapping[str, Any]) -> Pins:
    if document.get("version") != VERSION:
        raise ValueError(f"it has version {document.get('version')!r}, not {VERSION}")
    pins: dict[Key, Pin] = {}
    providers = _table(document.get("providers", {}))
    for provider, kinds in providers.items():
        for kind, names in _table(kinds).items():
            for name, table in _table(names).items():
                pins[Key(kind, provider, name)] = _parse_pin(_table(table))
    return Pins(pins, frozenset(providers))


def _parse_pin(table: Mapping[str, Any]) -> Pin:
    sha256, description = table.get("sha256"), table.get("description", "")
    inputs, fields = table.get("inputs", []), _table(table.get("fields", {}))
    texts = (description, *(inputs if isinstance(inputs, list) else (None,)), *fields.values())
    if not isinstance(sha256, str) or not _SHA256.match(sha256) or not all(isinstance(text, str) for text in texts):
        raise ValueError("a pin has no valid sha256, or something that is not text")
    return Pin(sha256, description, tuple(inputs), fields)


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("something that should be a table is none")  # noqa: TRY004 - what tomllib raises too
    return value
