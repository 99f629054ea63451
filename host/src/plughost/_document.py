"""The config file as a document: where it is, and its tables as written.

Apart from the models, so that listings need not wait for pydantic.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from plughost._errors import ConfigError, Fault

DEFAULT_FILE = "plughost.toml"


def find_config(given: str | Path | None = None) -> Path | None:
    """The config file: `given`, else `./plughost.toml`, else `./pyproject.toml` with a `[tool.plughost]` table.

    Raises:
        ConfigError: `given` does not exist, or `./pyproject.toml` is not TOML.
    """
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise ConfigError([Fault("", "no such file; create it, or name another with --config")], source=str(path))
        return path.absolute()
    if Path(DEFAULT_FILE).is_file():
        return Path(DEFAULT_FILE).absolute()
    pyproject = Path("pyproject.toml").absolute()
    return pyproject if pyproject.is_file() and read_document(pyproject) else None


def read_document(path: Path) -> dict[str, Any]:
    """The raw tables of a config file, references not yet replaced.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        return parse_document(path.read_bytes().decode(), path)
    except OSError as error:
        raise ConfigError([Fault("", f"cannot be read: {error.strerror}")], source=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Fault("", f"is not UTF-8: {error}")], source=str(path)) from error


def parse_document(text: str, path: Path) -> dict[str, Any]:
    """The raw tables in the text of a config file.

    Raises:
        ConfigError: The text is not TOML.
    """
    try:
        document: Any = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([Fault("", f"is not valid TOML: {error}")], source=str(path)) from error
    for key in ("tool", "plughost") if path.name == "pyproject.toml" else ():
        document = document.get(key, {})
        if not isinstance(document, dict):
            raise ConfigError([Fault(key, f"is {document!r}, not a table")], source=str(path))
    return document  # type: ignore[no-any-return]  # tomllib's tables are dicts


def plugin_tables(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The `[plugins.NAME]` tables as written, without anything that is not a table."""
    tables = document.get("plugins")
    items = tables.items() if isinstance(tables, dict) else ()
    return {name: table for name, table in items if isinstance(table, dict)}
