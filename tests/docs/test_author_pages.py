"""The pages on how to test, measure and debug a plugin work to the letter where the packages are installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from following import Reader, commands

from docs.examples import ENVIRONMENT

INSTALLED = ["pip install plughost-testing", "pip install plughost-metrics"]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Somebody with an empty folder, in the environment of these tests."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return Reader(folder, {**os.environ, **ENVIRONMENT})


def test_debug_a_plugin(reader: Reader) -> None:
    """The traces, the chain, the log and the faults are printed as they are shown."""
    for name in ("people_server.py", "redact.py"):
        reader.save(f"examples/one_file_plugin/{name}", name)
    reader.follow("how-to/debug-a-plugin.md", numbers=False)


def test_test_a_plugin(reader: Reader) -> None:
    """The plugin shown passes the tests shown, the contract among them."""
    reader.follow("how-to/test-a-plugin.md", done_already=INSTALLED)


def test_measure_a_plugin(reader: Reader) -> None:
    """The plugin shown has the metric shown, once somebody called a tool."""
    for name in ("library_server.py", "read.py"):
        reader.save(f"examples/write_a_plugin/{name}", name)
    reader.follow("how-to/measure-a-plugin.md", done_already=INSTALLED)


def test_a_page_that_shows_something_else_fails(reader: Reader) -> None:
    """What a command prints is compared, with `…` for anything."""
    reader.type("echo one two", "one …\n")
    with pytest.raises(AssertionError, match="'echo one two' printed 'one two"):
        reader.type("echo one two", "one three\n")
    with pytest.raises(AssertionError, match="'false' gave 1"):
        reader.type("false", "")


def test_commands_are_told_from_what_they_print() -> None:
    """A line with a dollar sign is typed, the lines below it are its output."""
    assert list(commands("$ one\n$ two\nprinted\n")) == [("one", ""), ("two", "printed\n")]
