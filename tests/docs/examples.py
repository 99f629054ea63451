"""Copies of the documentation's examples, and how they are served."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner
from mcp_types import CallToolResult, TextContent
from plughost._cli import cli
from serving import free_port, serving

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "docs" / "examples"
SCRIPTS = Path(sys.executable).parent
ENVIRONMENT = {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
"""As in an activated virtual environment: `plughost` and `python3` are found in it first."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running example: its MCP endpoint and its copied config file."""

    url: str
    config: Path

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/mcp")


Serve = Callable[[str], Served]


def text_of(result: CallToolResult) -> str:
    """The text of a tool's answer."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def plughost(*arguments: str) -> str:
    """What a command prints; it runs in this process, since starting an interpreter takes the most time."""
    with ThreadPoolExecutor(1) as terminal:  # where no loop is running
        ran = terminal.submit(CliRunner().invoke, cli, arguments).result()
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@contextmanager
def served(example: str, folder: Path) -> Iterator[Served]:
    """Run `plughost serve` for a copy of an example, on a free port."""
    config = shutil.copytree(EXAMPLES / example, folder / example) / "plughost.toml"
    port = move_listener(config)
    command = [str(SCRIPTS / "plughost"), "serve", "--config", str(config)]
    with serving(command, port, log=folder / f"{example}.log", environment=ENVIRONMENT) as url:
        yield Served(url, config)


def move_listener(config: Path) -> int:
    """Let a config listen on a free port, which is returned."""
    port = free_port()
    text = config.read_text("utf-8")
    listen = f'listen = "127.0.0.1:{port}"'
    if "[host]" not in text:
        text = f"[host]\n{listen}\n{text}"
    elif "listen" not in text:
        text = text.replace("[host]", f"[host]\n{listen}")
    config.write_text(re.sub(r'listen = "127\.0\.0\.1:\d+"', listen, text), "utf-8")
    return port
