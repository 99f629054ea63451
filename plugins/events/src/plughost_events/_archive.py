"""Archives: what retention takes out of the store, in files that can be verified like the store itself."""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from plughost_events._chain import Anchor, Fault, faults
from plughost_events._event import Row


def write_archive(folder: Path, anchor: Anchor, rows: Sequence[Row]) -> Path:
    """One file, on the disk when this returns: the anchor that its chain begins from, then an event a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events-{rows[0].position:012}-{rows[-1].position:012}.jsonl.gz"
    beginning = orjson.dumps({"anchor": str(anchor)})
    lines = (beginning, *(orjson.dumps(_line(row)) for row in rows))
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(gzip.compress(b"".join(line + b"\n" for line in lines)))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def read_archive(path: Path) -> tuple[Anchor, list[Row]]:
    """The anchor and the events of a file.

    Raises:
        ValueError: It is no archive, or is cut short.
    """
    try:
        first, *lines = gzip.decompress(path.read_bytes()).splitlines()
        return Anchor.parse(orjson.loads(first)["anchor"]), [_row(orjson.loads(line)) for line in lines]
    except (EOFError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no archive of events, or is damaged: {error}") from error


def archives(folder: Path) -> list[Path]:
    """The files in a folder, oldest events first."""
    return sorted(folder.glob("events-*.jsonl.gz"))


def archive_faults(folder: Path, end: Anchor, key: bytes) -> Iterator[Fault]:
    """Everything that is wrong with the files in a folder, which must lead up to `end` without a gap."""
    previous: Anchor | None = None
    for path in archives(folder):
        try:
            begin, rows = read_archive(path)
        except ValueError as error:
            yield Fault(0 if previous is None else previous.position + 1, str(error))
            previous = None
            continue
        if previous is not None and begin != previous:
            yield Fault(begin.position + 1, f"{path.name} does not begin where the file before it ends")
        previous = Anchor(rows[-1].position, rows[-1].hash)
        yield from faults(rows, begin, previous, key)
    if previous != end and not (previous is None and end.position == 0):
        yield Fault(end.position, "the files do not lead up to where the store begins")


def _line(row: Row) -> dict[str, Any]:
    data = base64.b64encode(row.data).decode() if row.sealed else bytes(row.data).decode()
    return {**row._asdict(), "data": data, "hash": bytes(row.hash).hex()}


def _row(line: dict[str, Any]) -> Row:
    data = base64.b64decode(line["data"]) if line["sealed"] else line["data"].encode()
    return Row(**{**line, "data": data, "hash": bytes.fromhex(line["hash"])})
