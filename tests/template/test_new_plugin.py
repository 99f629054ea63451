"""From a built host to a called tool: the path of a plugin author."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from installation import REPOSITORY, UV
from mcp import Client
from mcp.client.client import ConnectMode
from serving import free_port, serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

TEMPLATE = REPOSITORY / "plugin_template"
SHIPPED = "plughost/_plugin_template/"


@dataclass(frozen=True)
class Author:
    """Somebody with an empty folder and a Python environment of their own."""

    folder: Path

    def run(self, *command: str, within: str = "") -> str:
        """Run a program of the environment; gives what it printed."""
        return self._run(str(self.folder / "env" / "bin" / command[0]), *command[1:], within=within)

    def install(self, *what: str) -> None:
        self._run(*UV, "pip", "install", "--quiet", f"--python={self.folder / 'env'}", *what)

    def _run(self, *command: str, within: str = "") -> str:
        cut_off = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(
            command,
            cwd=self.folder / within,
            env=cut_off,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command} failed: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distributions of the host and of the testing kit, and the wheels built from those."""
    folder = tmp_path_factory.mktemp("dist")
    for name in ("plughost", "plughost-testing"):
        build = [*UV, "build", "--quiet", f"--package={name}", f"--out-dir={folder}"]
        subprocess.run(build, cwd=REPOSITORY, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("plughost-[0-9]*.whl")
    return wheel


@pytest.fixture(scope="module")
def author(dist: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Author:
    """An author who installed the host, made a plugin with it, and installed that."""
    author = Author(tmp_path_factory.mktemp("author"))
    venv.create(author.folder / "env")
    author.install(str(wheel))
    author.run("plughost", "new", "sea-shanty")
    author.install(f"--find-links={dist}", "./sea-shanty[test]")
    return author


def template() -> dict[str, bytes]:
    paths = (path for path in TEMPLATE.rglob("*") if path.is_file())
    inside = {path.relative_to(TEMPLATE): path for path in paths}
    return {
        name.as_posix(): path.read_bytes()
        for name, path in inside.items()
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    }


def test_wheel_holds_the_template(wheel: Path) -> None:
    """The host's wheel ships exactly the files of `plugin_template/`."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {
            name.removeprefix(SHIPPED): archive.read(name)
            for name in archive.namelist()
            if name.startswith(SHIPPED) and not name.endswith("/")
        }
    assert shipped == template()


def test_source_distribution_holds_the_template(dist: Path) -> None:
    """The host's source distribution holds them as files, not as links that lead out of it."""
    (release,) = dist.glob("plughost-[0-9]*.tar.gz")
    shipped = {}
    with tarfile.open(release) as archive:
        for member in archive.getmembers():
            _, found, name = member.name.partition(f"/src/{SHIPPED}")
            if found and not member.isdir():
                content = archive.extractfile(member)
                assert member.isfile()
                assert content is not None
                shipped[name] = content.read()
    assert shipped == template()


def test_made_package_passes_its_tests(author: Author) -> None:
    """The tests of a new package, the contract among them, pass where only what it needs is installed."""
    assert " 16 passed in" in author.run("python", "-m", "pytest", "-p", "no:cacheprovider", within="sea-shanty")


def test_made_package_is_listed(author: Author) -> None:
    """Without a config the new plugin is available, with the name, version and summary of its package."""
    rows = {row["name"]: row for row in json.loads(author.run("plughost", "plugins", "list", "--json"))}
    row = rows["sea-shanty"]
    assert (row["distribution"], row["version"], row["status"]) == ("plughost-sea-shanty", "0.1.0", "available")
    assert row["summary"]


def test_made_package_checks(author: Author) -> None:
    """Hooks, entry point and host range of the new plugin hold."""
    assert "sea-shanty: ok" in author.run("plughost", "plugins", "check", "sea-shanty")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_made_tool_is_called(author: Author, tmp_path: Path, mode: ConnectMode) -> None:
    """Enabled in a config and served, its tool answers and its middleware signs, to clients of both eras."""
    port = free_port()
    config = tmp_path / "plughost.toml"
    config.write_text(f'[host]\nlisten = "127.0.0.1:{port}"\n', "utf-8")
    author.run("plughost", "plugins", "enable", "sea-shanty", "--config", str(config))
    command = (str(author.folder / "env" / "bin" / "plughost"), "serve", "--config", str(config))
    with serving(command, port, log=tmp_path / "log") as url:
        async with Client(url, mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["greet"]
            result = await client.call_tool("greet", {"name": "Ada"})
    assert result.structured_content == {"result": "Hello, Ada!"}
    assert (result.meta or {})["sea-shanty/greeting"] == "Hello"
