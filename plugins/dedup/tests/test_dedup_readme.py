"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from plughost_dedup import IDEMPOTENCY_KEY, DedupConfig, DedupPlugin
from plughost_testing.services import HostProcess, Stack

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def test_two_minutes(stack: Stack) -> None:
    """A hundred calls of a client at a served host are one execution."""
    server, client = blocks("python")
    host = stack.start(HostProcess(tomllib.loads(blocks("toml")[0]), files={"report_server.py": server}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    ran = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == blocks("console")[2].partition("client.py\n")[2]


def test_keys_are_listed() -> None:
    """Each key of the config has a row, with its default."""
    table = README.partition("## Config")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| `(.*?)` \|", table, re.MULTILINE))
    fields = DedupConfig.model_fields
    assert rows.keys() == fields.keys()
    for name, shown in rows.items():
        assert DedupConfig.model_validate({name: json.loads(shown)}) == DedupConfig(), name


def test_names_are_those_of_the_code() -> None:
    """The key in `_meta`, and the operations."""
    assert IDEMPOTENCY_KEY in json.loads(blocks("json")[0])["_meta"]
    shown = re.findall(r"`plughost ctl dedup (\w+)`", README)
    assert shown == [operation.name for operation in DedupPlugin(name="dedup").plughost_operations()]
