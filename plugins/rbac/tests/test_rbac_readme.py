"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from plughost_rbac import RBACConfig
from plughost_testing.services import HostProcess, Stack

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def ran(*command: str) -> str:
    """What a command prints."""
    return subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True, timeout=60).stdout


def test_two_minutes(stack: Stack) -> None:
    """The rule is explained as the README says, and a served host lists, answers and refuses as it says."""
    server, client = blocks("python")
    host = stack.start(HostProcess(tomllib.loads(blocks("toml")[0]), files={"notes_server.py": server}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    assert ran(str(program)) == blocks("console")[2].partition("client.py\n")[2]
    explained = ran("-m", "plughost", "rbac", "explain", "--config", str(host.config), "ada", "drop")
    assert explained == blocks("console")[1].partition("drop\n")[2].partition("$")[0]


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    table = README.partition("| key |")[2].partition("\n\n")[0]
    assert [name for name in RBACConfig.model_fields if f"`{name}`" not in table] == []
