"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.request import urlopen

import pytest
from plughost_metrics import MetricsConfig, OTLPConfig
from plughost_testing.services import HostProcess, Stack

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.services
def test_two_minutes(stack: Stack) -> None:
    """A served host shows the line that the README prints, after the call that it makes."""
    server, client = blocks("python")
    host = stack.start(HostProcess(tomllib.loads(blocks("toml")[0]), files={"notes_server.py": server}))
    program = client.replace("http://127.0.0.1:8000/mcp", host.url)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with urlopen(host.url.replace("/mcp", "/metrics"), timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    assert blocks("console")[2].splitlines()[-1] in lines


def test_keys_are_listed() -> None:
    """Each key of the config has its row."""
    rows = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert rows == {*MetricsConfig.model_fields, *OTLPConfig.model_fields}
