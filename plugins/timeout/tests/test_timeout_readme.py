"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from plughost_testing.services import HostProcess, Stack
from plughost_timeout import TimeoutConfig

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.services
def test_two_minutes(stack: Stack) -> None:
    """A client of a served host prints what the README says."""
    server, client = blocks("python")
    host = stack.start(HostProcess(tomllib.loads(blocks("toml")[0]), files={"notes_server.py": server}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    run = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout == blocks("console")[2].partition("client.py\n")[2]


def test_keys_are_listed() -> None:
    """Each key of the config has its row."""
    rows = set(re.findall(r"^\| `([\w.]+)` \|", README.partition("## Config")[2].partition("## Oper")[0], re.MULTILINE))
    assert rows == {*TimeoutConfig.model_fields}
