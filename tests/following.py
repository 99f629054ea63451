"""A reader who does what a page says, to the letter."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from installation import REPOSITORY
from serving import START_LIMIT, STOP_LIMIT, free_port

DOCS = REPOSITORY / "docs"
STEP = re.compile(
    r"^`(?P<file>[\w.]+)`[^\n]*:\n\n```(?:python|toml)\n(?P<content>.*?)^```$"
    r"|^```console\n(?P<console>.*?)^```$"
    r"|^```text\n(?P<text>.*?)^```$"
    r"|^```\{literalinclude\} /(?P<source>\S+)\n:language: \w+\n:caption: (?P<target>\S+)\n```$"
    r"|(?P<stop>Ctrl-C)",
    re.MULTILINE | re.DOTALL,
)
LISTEN = "127.0.0.1:8000"
COMMAND_LIMIT = 240.0
REFUSALS = (": faulty\n", " does not see ", " 1 quarantined")
"""What commands show whose exit code is not 0."""


class Reader:
    """Saves the files that have a caption, types the commands, and compares what the page says they print.

    `plughost dev` and `plughost serve` run in a first terminal until the page has Ctrl-C; a `text` block is what that
    terminal prints next. Another command with `&` runs until the end. `…` stands for anything in its line, or for
    lines. What is on port 8000 is on a free one here. In a `with` statement, what still runs at its end is ended.
    """

    exact = False
    """Whether a command must print nothing but what is shown."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._environment = environment
        self._listen = f"127.0.0.1:{free_port()}"
        self._setup: list[str] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        self._read = 0
        self._numbers = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def url(self) -> str:
        """The MCP endpoint of what runs in the first terminal."""
        return f"http://{self._listen}/mcp"

    def follow(self, page: str, *, numbers: bool = True, done_already: Sequence[str] = ()) -> None:
        """Do all that a page says; without `numbers`, any time in a log is as good as another."""
        self._numbers = numbers
        with self:
            self.do((DOCS / page).read_text("utf-8"), done_already)

    def do(self, text: str, done_already: Sequence[str] = ()) -> None:
        """Do what a text says, and leave running what runs."""
        typed = 0
        for step in STEP.finditer(text):
            if step["file"]:
                self.write(step["content"], step["file"])
            elif step["source"]:
                self.save(step["source"], step["target"])
            elif step["console"]:
                for command, printed in commands(step["console"]):
                    if command not in done_already:
                        self.type(command, printed)
                    typed += 1
            elif step["text"]:
                self._expect_next(step["text"])
            elif self._server is not None:
                self._stop(self._server)
        assert typed == text.count("\n$ ")

    def save(self, source: str, target: str) -> None:
        """Have a file of the documentation in the folder."""
        self.write((DOCS / source).read_text("utf-8"), target)

    def write(self, content: str, target: str) -> None:
        """Have a file in the folder."""
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / target).write_text(content.replace(LISTEN, self._listen), "utf-8")

    def type(self, command: str, printed: str = "") -> str:
        """Type a command; gives what it printed: what is shown stands in it, or is all of it if `exact`."""
        if command.startswith(("source ", "cd ", "export ")):
            self._setup.append(command)
        elif re.match(r"\S*plughost (dev|serve)\b", command):
            self._serve(command.removesuffix(" &"))
            self._expect_next(printed)
        elif command.endswith(" &"):
            self._others.append(self._start(command.removesuffix(" &"), subprocess.DEVNULL))
        else:
            code, output = self.run(command.replace(LISTEN, self._listen))
            pattern = self._pattern(printed)
            whole = self.exact and printed
            found = pattern.fullmatch(output.rstrip("\n") + "\n") if whole else pattern.search(output)
            assert found, f"{command!r} printed {output!r}, not {printed!r}"
            assert bool(code) == any(text in printed for text in REFUSALS), f"{command!r} gave {code}: {output}"
            return output
        return ""

    def run(self, command: str) -> tuple[int, str]:
        """The exit code and the output of a command that ends."""
        done = subprocess.run(
            self._shell(command),
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_LIMIT,
        )
        return done.returncode, done.stdout

    def _shell(self, command: str) -> list[str]:
        return ["bash", "-c", "\n".join([*self._setup, f"exec {command}"])]

    def _serve(self, command: str) -> None:
        if self._server is not None:
            self._stop(self._server)
        self._read = 0
        with self.log.open("wb") as log:
            self._server = self._start(command, log)
        self._expect_next(f"serves http://{LISTEN}/mcp\n", read=False)

    def _start(self, command: str, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._shell(command),
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _expect_next(self, printed: str, *, read: bool = True) -> None:
        """Wait until the first terminal shows this, after what it showed before."""
        assert self._server is not None
        pattern, deadline = self._pattern(printed), time.monotonic() + START_LIMIT
        while not (found := pattern.search(self.log.read_text("utf-8"), self._read)):
            assert self._server.poll() is None, f"ended: {self.log.read_text('utf-8')}"
            assert time.monotonic() < deadline, f"{printed!r} is not in {self.log.read_text('utf-8')!r}"
            time.sleep(0.02)
        self._read = found.end() if read else self._read

    def _pattern(self, printed: str) -> re.Pattern[str]:
        lines = re.escape(printed.replace(LISTEN, self._listen))
        lines = lines.replace("\n…\\\n", "\n(?s:.*?)\n").replace("…", ".*")
        if not self._numbers:
            lines = re.sub(r"(?<=,)\d+(?=\\ )|\d+\\\.\d+(?=\\ us)", r"[\\d.]+", lines)
        return re.compile(re.sub(r"(\\ )+", r"\\s+", lines))

    def _stop(self, server: subprocess.Popen[bytes]) -> None:
        """Ctrl-C ends it properly."""
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(STOP_LIMIT) == 0, self.log.read_text("utf-8")
        self._server = None

    def leave(self) -> None:
        """End what still runs."""
        for other in self._others:
            os.killpg(other.pid, signal.SIGKILL)
            other.wait()
        self._others = []
        if self._server is not None:
            self._stop(self._server)


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block with what is shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed
