"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from plughost_tenancy import TenancyConfig
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
    """A served host shows each tenant what the README says; the example of a limit for one tenant is loaded too."""
    server, client = blocks("python")
    config = tomllib.loads("".join(blocks("toml")))
    host = stack.start(HostProcess(config, files={"servers.py": server}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000", host.url.removesuffix("/mcp")), "utf-8")
    assert ran(str(program)) == blocks("console")[2].partition("client.py\n")[2]


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    table = README.partition("| key |")[2].partition("\n\n")[0]
    assert [name for name in TenancyConfig.model_fields if f"`{name}`" not in table] == []
