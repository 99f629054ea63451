"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from plughost_chaos import ChaosConfig, FaultTable
from plughost_chaos._config import KINDS
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
    """A served host fails the call that the README says; its operations count, and end the faults."""
    server, client = blocks("python")
    config = {"host": {"control": True}, **tomllib.loads(blocks("toml")[0])}
    host = stack.start(HostProcess(config, files={"notes_server.py": server, "client.py": client}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    assert ran(str(program)) == blocks("console")[2].partition("client.py\n")[2].partition("$")[0]
    control = ("-m", "plughost", "ctl", "--config", str(host.config), "chaos")
    assert json.loads(ran(*control, "show"))["injected"]["error"] == 1
    assert json.loads(ran(*control, "set-seed", "seed=7"))["seed"] == 7
    assert json.loads(ran(*control, "pause"))["paused"] is True
    assert "Failed" not in ran(str(program))


def test_keys_are_listed() -> None:
    """Each key of the config, each of a fault, and each kind has its place in a table."""
    rows = set(re.findall(r"^\| `([\w-]+)` \|", README, re.MULTILINE))
    common = {"kind", "target", "methods", "rate", "on"}
    assert rows - {"show", "pause", "resume"} == {*ChaosConfig.model_fields, *common, *KINDS}
    own = README.partition("| kind |")[2].partition("\n\n")[0]
    assert [key for key in FaultTable.model_fields.keys() - common if f"`{key}`" not in own] == []
