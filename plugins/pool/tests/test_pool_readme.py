"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import anyio
from mcp import Client
from plughost_pool import PoolConfig
from plughost_testing.services import HostProcess, Stack

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def test_two_minutes(stack: Stack) -> None:
    """A served host with the README's plugin counts a call through a pool that the operator sees."""
    plugin, server = blocks("python")
    config = {"host": {"control": True}, **tomllib.loads(blocks("toml")[0])}
    host = stack.start(HostProcess(config, files={"visits.py": plugin, "notes_server.py": server}))

    async def add() -> None:
        async with Client(host.url) as client:
            await client.call_tool("add", {"text": "milk"})

    anyio.run(add)
    with sqlite3.connect(host.folder / "visits.db") as database:
        assert database.execute("SELECT tool FROM visits").fetchall() == [("add",)]
    database.close()
    control = [sys.executable, "-m", "plughost", "ctl", "--config", str(host.config), "pool", "show"]
    shown = json.loads(subprocess.run(control, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert [(pool["name"], pool["idle"], pool["max_size"]) for pool in shown["pools"]] == [("visits", 1, 3)]


def test_keys_are_listed() -> None:
    """Each key of the config has its row in the table."""
    assert re.findall(r"^\| `([\w-]+)` \|", README, re.MULTILINE) == list(PoolConfig.model_fields)
