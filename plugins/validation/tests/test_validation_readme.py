"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from plughost_testing.services import HostProcess, Stack
from plughost_validation import ValidationConfig

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def ran(*command: str) -> str:
    """What a command prints."""
    return subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True, timeout=60).stdout


def test_two_minutes(stack: Stack) -> None:
    """A served host answers as the README shows; the operation finds no tool to refuse."""
    server, client = blocks("python")
    config = {"host": {"control": True}, **tomllib.loads(blocks("toml")[0])}
    host = stack.start(HostProcess(config, files={"notes_server.py": server}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    assert ran(str(program)) == blocks("console")[2].partition("client.py\n")[2]
    checked = json.loads(ran("-m", "plughost", "ctl", "--config", str(host.config), "validation", "check"))
    assert checked["compiled"] == 1
    assert checked["refused_tools"] == {}


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    table = README.partition("| key |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(ValidationConfig.model_fields)
