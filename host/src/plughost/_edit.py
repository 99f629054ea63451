"""Switch a plugin instance on or off in a config file; comments and order stay."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from plughost._document import parse_document, plugin_tables
from plughost._errors import ConfigError, Fault, did_you_mean


def switch(text: str, path: Path, name: str, *, enabled: bool) -> str:
    """The text of the config file at `path` with `[plugins.NAME]` switched. Enabling makes the table if need be.

    Raises:
        ConfigError: The text is not TOML, there is no such table to disable, or it is written in a way that cannot
            be edited.
    """
    document = parse_document(text, path)
    tables = plugin_tables(document)
    wanted = dict(tables.get(name, {}))
    place = [*(("tool", "plughost") if path.name == "pyproject.toml" else ()), "plugins", name]
    where = ".".join(place)
    if name not in tables and not enabled:
        problem = f"there is no such table to disable{did_you_mean(name, tables)}"
        raise ConfigError([Fault(where, problem)], source=str(path))
    if name in tables and wanted.get("enabled", True) is enabled:
        return text
    line = f"enabled = {str(enabled).lower()}\n" if name in tables else ""
    candidates = [f"{text.rstrip()}\n\n[{where}]\n{line}".lstrip()]
    if name in tables:
        wanted["enabled"] = enabled
        candidates.insert(0, _set_enabled(text, place, enabled=enabled))
    for after in candidates:  # not every way to write a table takes every edit
        with suppress(ConfigError):
            if parse_document(after, path) == {**document, "plugins": {**document.get("plugins", {}), name: wanted}}:
                return after
    raise ConfigError([Fault(where, "is written in a way that cannot be edited; do it by hand")], source=str(path))


def _set_enabled(text: str, place: list[str], *, enabled: bool) -> str:
    document = tomlkit.parse(text)
    table: Any = document
    for key in place:
        table = table[key]
    added = "enabled" not in table
    table["enabled"] = enabled
    if isinstance(table, Table) and added:  # at the top: comments at the end belong to the next table
        body = table.value.body
        body.insert(0, body.pop())
    return tomlkit.dumps(document)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` in the file's place at once: whoever watches it sees the old or the new, never a part.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    path = path.resolve()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        shutil.copymode(path, fresh)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError([Fault("", f"cannot be written: {error.strerror}")], source=str(path)) from error
