"""A package's README: what it shows, and a reader who follows it."""

from __future__ import annotations

import io
import os
import re
import runpy
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from following import LISTEN, Reader

from docs.examples import ENVIRONMENT


class Readme:
    """The README of the package whose test this is: `Readme(__file__)`."""

    def __init__(self, test: str) -> None:
        files = (folder / "README.md" for folder in Path(test).parents)
        self.text = next(file for file in files if file.exists()).read_text("utf-8")

    def section(self, title: str) -> str:
        """What stands below the heading that begins so, to the next one; nothing, if there is none."""
        found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", self.text, re.MULTILINE | re.DOTALL)
        return found[0] if found else ""

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language, in order."""
        found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        return found

    def rows(self, title: str) -> list[str]:
        """The names with which the rows of a section's tables begin."""
        found: list[str] = re.findall(r"^\| `([\w.-]+)", self.section(title), re.MULTILINE)
        return found

    def followed(self, folder: Path, *, done_already: Sequence[str] = ()) -> Reader:
        """A reader who has done what stands "In two minutes", in an empty folder; the host runs until he leaves."""
        reader = _Neighbour(folder)
        try:
            reader.do(self.section("In two minutes"), done_already)
        except BaseException:
            reader.leave()
            raise
        return reader


class _Neighbour(Reader):
    """Has all packages installed, and runs a client in this process: starting an interpreter takes the most time."""

    exact = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {**os.environ, **ENVIRONMENT})

    def write(self, content: str, target: str) -> None:
        if target.endswith(".toml") and LISTEN not in content:
            content = f'[host]\nlisten = "{LISTEN}"\n\n{content}'
        super().write(content, target)

    def run(self, command: str) -> tuple[int, str]:
        program, _, arguments = command.partition(" ")
        if program == "pip":
            return 0, ""
        if program != "python":
            return super().run(command)
        with io.StringIO() as output, redirect_stdout(output), redirect_stderr(output):
            runpy.run_path(str(self.folder / arguments), run_name="__main__")
            return 0, output.getvalue()
