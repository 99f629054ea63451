"""The README's example runs on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from plughost_encryption import EncryptionConfig, new_key
from plughost_testing.services import HostProcess, Stack

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def test_two_minutes(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets its answer, and the files of the cache hold none of it."""
    server, client, _ = blocks("python")
    monkeypatch.setenv("NOTES_KEY", new_key())
    host = stack.start(HostProcess(tomllib.loads(blocks("toml")[0]), files={"notes_server.py": server}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    ran = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "Water the plants.\n"
    stored = b"".join(path.read_bytes() for path in host.folder.glob("cache.db*"))
    assert len(stored) > 1000
    assert b"plants" not in stored
    assert (host.folder / "data-keys.db").stat().st_size > 0


def test_keys_are_listed() -> None:
    """Each key of the config has a row."""
    table = README.partition("## Config")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == list(EncryptionConfig.model_fields)
