"""The README's commands and code do what it says, as they stand there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client
from plughost import create_host
from readmes import Readme
from serving import serving

from docs.examples import EXAMPLES, REPOSITORY, move_listener, text_of

README = Readme(__file__)


def test_the_readme_is_short() -> None:
    """It has between 75 and 140 lines."""
    assert 75 <= len(README.text.splitlines()) <= 140


def test_the_configuration_shown_is_the_quickstarts() -> None:
    """What the reader sees is the file that is served."""
    assert README.blocks("toml") == [(EXAMPLES / "quickstart/plughost.toml").read_text("utf-8")]


def test_ci_passes_the_tests_with_the_readmes_command() -> None:
    """The second command is the one that continuous integration runs."""
    command = README.blocks("console")[1].strip()
    assert f"'{command}'" in (REPOSITORY / ".ci" / "run").read_text("utf-8")


@pytest.mark.anyio
async def test_the_plugin_shown_runs(tmp_path: Path) -> None:
    """The README's plugin loads from a file and is in the chain."""
    [code] = README.blocks("python")
    (tmp_path / "greeting.py").write_text(code)
    config = tmp_path / "plughost.toml"
    config.write_text('[plugins.greeting]\nplugin = "./greeting.py:GreetingPlugin"\ntext = "hi"\n')
    async with create_host(config) as host:
        assert [layer["instance"] for layer in host.chain()] == ["greeting"]


@pytest.fixture
def first_command(tmp_path: Path) -> Iterator[str]:
    """Runs the first command in an empty environment and a clean copy; gives the URL that it serves."""
    copy = clean_copy(tmp_path / "repository")
    port = move_listener(copy / "docs/examples/quickstart/plughost.toml")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    environment = {
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(venv),
        "PYTHONPATH": "",
    }
    shell = ["bash", "-c", f"cd {copy} && {README.blocks('console')[0].strip()}"]
    with serving(shell, port, log=tmp_path / "log", environment=environment, start_limit=240) as url:
        yield url


@pytest.mark.anyio
@pytest.mark.timeout(300)
async def test_the_first_command_installs_and_serves(first_command: str) -> None:
    """It serves the quickstart, and the tools of both servers answer."""
    async with Client(first_command) as client:
        assert text_of(await client.call_tool("add_note", {"title": "a", "text": "b"})) == "Kept 'a'."
        assert text_of(await client.call_tool("clock_now", {})).startswith("20")


def clean_copy(target: Path) -> Path:
    """The packages and examples as a checkout has them."""
    ignore = shutil.ignore_patterns("__pycache__", ".*", "build", "_build", "dist")
    for name in ("host", "plugins", "docs"):
        shutil.copytree(REPOSITORY / name, target / name, ignore=ignore)
    return target
