"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from plughost import GuardConfig
from plughost_circuit_breaker import CircuitBreakerConfig
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
    """A served host refuses the calls that the README says; and `show` says why."""
    server, client = blocks("python")
    config = {"host": {"control": True}, **tomllib.loads(blocks("toml")[0])}
    host = stack.start(HostProcess(config, files={"weather_server.py": server, "client.py": client}))
    program = host.folder / "client.py"
    program.write_text(client.replace("http://127.0.0.1:8000/mcp", host.url), "utf-8")
    assert ran(str(program)) == blocks("console")[1].partition("client.py\n")[2].partition("$")[0]
    control = ("-m", "plughost", "ctl", "--config", str(host.config), "circuit-breaker")
    states = {item["tool"]: item for item in json.loads(ran(*control, "show"))["breakers"]}
    assert (states["forecast"]["state"], states[None]["state"]) == ("open", "closed")


def test_keys_are_listed() -> None:
    """Each key of the config has a row, with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|", README.partition("## Config")[2], re.MULTILINE))
    own = {
        name: field for name, field in CircuitBreakerConfig.model_fields.items() if name not in GuardConfig.model_fields
    }
    assert rows.keys() == own.keys()
    for name, field in own.items():
        shown = rows[name].strip("`").removesuffix("s").strip('"')
        default = json.dumps(field.default).strip('"') if name == "per" else str(field.default)
        default = {"None": "\N{EN DASH}", "False": "false"}.get(default, default).removesuffix(".0")
        assert shown == default, name


def test_operations_are_listed() -> None:
    """Each operation has a row."""
    rows = re.findall(r"^\| `([\w-]+) ?[^`]*=", README.partition("## Operations")[2], re.MULTILINE)
    assert sorted(rows) == ["close", "disable", "force-open", "observe", "reset", "show"]
