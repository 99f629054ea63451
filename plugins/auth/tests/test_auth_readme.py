"""The README's examples run; its table holds what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from plughost_auth import AuthConfig, IssuerConfig
from plughost_testing.services import HostProcess, Stack

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def test_two_minutes(stack: Stack) -> None:
    """A served host refuses who has no token, and knows who has one, as the README shows."""
    server, client = blocks("python")
    host = stack.start(HostProcess(tomllib.loads(blocks("toml")[0]), files={"notes_server.py": server}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    ran = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == blocks("console")[1].partition("client.py\n")[2]


def test_keys_are_listed() -> None:
    """Each key of the config stands in the table, each of an issuer below it, and the longer example is valid."""
    assert set(re.findall(r"^\| `([\w-]+)` \|", README, re.MULTILINE)) == set(AuthConfig.model_fields)
    described = README.partition("An identity is")[2].partition("## Operations")[0]
    assert [key for key in IssuerConfig.model_fields if f"`{key}`" not in described] == []
    AuthConfig.model_validate(tomllib.loads(blocks("toml")[1])["plugins"]["auth"])
