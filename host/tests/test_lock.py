"""The lock file: which code each enabled plugin is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from plughost import ConfigError, PluginError, create_host
from plughost._cli import cli
from plughost._discovery import discover
from plughost._lock import NAME, Lock, pin

pytestmark = pytest.mark.anyio

PLUGIN = "from plughost import MCPPlugin\n\nclass Plugin(MCPPlugin):\n    pass\n"
CONFIG = '[host]\nlocked = true\n[plugins.mine]\nplugin = "./mine.py:Plugin"\n[plugins.off]\nenabled = false\n'
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in a folder with a config of two plugins, one of them disabled."""
    monkeypatch.chdir(tmp_path)
    write("mine.py", PLUGIN)
    write("plughost.toml", CONFIG)
    return lambda *arguments: CliRunner().invoke(cli, arguments)


def write(name: str, text: str) -> None:
    Path(name).write_text(text, "utf-8")


def move(name: str, other: str) -> None:
    Path(name).rename(other)


async def start() -> None:
    async with create_host("plughost.toml"):
        pass


async def test_a_locked_host_runs_what_is_locked(run: Run) -> None:
    """After `plughost plugins lock` the host starts; the file names the enabled plugins only."""
    assert "wrote" in run("plugins", "lock").stdout
    await start()
    assert list(Lock.read(Path(NAME)).pins) == ["mine"]


async def test_a_locked_host_needs_a_lock_file(run: Run) -> None:
    """The message says how to write it."""
    with pytest.raises(ConfigError, match="there is no lock file; write it: plughost plugins lock"):
        await start()


async def test_changed_code_is_refused_before_it_is_imported(run: Run) -> None:
    """The message names the plugin and both hashes; a review and a new lock let it run."""
    run("plugins", "lock")
    write("mine.py", f"{PLUGIN}\nraise SystemExit('imported')\n")
    with pytest.raises(ConfigError, match=r"plugins\.mine: it is .*sha256 .* and plughost\.lock has .*sha256 .*review"):
        await start()
    write("mine.py", f"{PLUGIN}\n# reviewed\n")
    assert "mine: " in run("plugins", "lock").stdout
    await start()


async def test_a_plugin_that_is_not_locked_is_refused(run: Run) -> None:
    """Enabling one needs a new lock."""
    run("plugins", "lock")
    write("plughost.toml", CONFIG + '[plugins.other]\nplugin = "./mine.py:Plugin"\n')
    with pytest.raises(ConfigError, match=r"plugins\.other: .* has no such instance"):
        await start()


@pytest.mark.parametrize("content", ["", "plugins = 1", "[plugins.mine]\nversion = 1", "not toml", "[plugins.mine]"])
async def test_a_lock_file_that_is_none_stops_the_start(run: Run, content: str) -> None:
    """Nothing is taken for locked that cannot be read."""
    write(NAME, content)
    with pytest.raises(ConfigError, match=rf"{NAME}: cannot be read"):
        await start()


async def test_a_running_host_takes_no_plugin_that_is_not_locked(run: Run) -> None:
    """A reload is refused with the same message, and what runs goes on."""
    run("plugins", "lock")
    async with create_host("plughost.toml") as host:
        write("mine.py", f"{PLUGIN}\n# changed\n")
        with pytest.raises(ConfigError, match=r"plugins\.mine: it is"):
            await host.reload()
        assert "mine" in host.instances


def test_the_lock_can_be_checked(run: Run) -> None:
    """Exit code 0 if it is up to date, 1 with the differences if not; nothing is written."""
    run("plugins", "lock")
    assert run("plugins", "lock", "--check").exit_code == 0
    before = Path(NAME).read_bytes()
    write("mine.py", f"{PLUGIN}\n# changed\n")
    checked = run("plugins", "lock", "--check")
    assert (checked.exit_code, checked.stdout.count("mine: ")) == (1, 1)
    assert Path(NAME).read_bytes() == before


def test_a_plugin_that_the_host_adds_is_locked_too(run: Run) -> None:
    """Providers with a command or a URL bring plughost-upstream, whether the file names it or not."""
    Path("plughost.toml").write_text('[providers.far]\nurl = "http://127.0.0.1:1/mcp"\n', "utf-8")
    run("plugins", "lock")
    assert list(Lock.read(Path(NAME)).pins) == ["upstream"]


def test_a_pin_covers_every_file_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is added, changed or renamed makes another hash; compiled files do not."""
    package = tmp_path / "plughost_lock_subject"
    package.mkdir()
    (package / "__init__.py").write_text(PLUGIN, "utf-8")
    info = tmp_path / "plughost_lock_subject-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plughost-lock-subject\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text("[plughost.plugins]\nsubject = plughost_lock_subject:Plugin\n", "utf-8")
    (info / "RECORD").write_text("plughost_lock_subject/__init__.py,,\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = discover()["subject"]
    first = pin(source)
    assert (first.distribution, first.version) == ("plughost-lock-subject", "1")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"")
    assert pin(source) == first
    (package / "more.py").write_text("", "utf-8")
    second = pin(source)
    (package / "more.py").rename(package / "other.py")
    assert len({first.sha256, second.sha256, pin(source).sha256}) == 3


def test_a_pin_covers_what_the_distribution_installs_beside_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another module, or a `.pth` file that Python runs at each start, is part of it."""
    (tmp_path / "plughost_beside.py").write_text(PLUGIN, "utf-8")
    info = tmp_path / "plughost_beside-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plughost-beside\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text("[plughost.plugins]\nbeside = plughost_beside:Plugin\n", "utf-8")
    (info / "RECORD").write_text("plughost_beside.py,,\nbeside.pth,,\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "beside.pth").write_text("import one\n", "utf-8")
    source = discover()["beside"]
    first = pin(source)
    (tmp_path / "beside.pth").write_text("import other\n", "utf-8")
    assert pin(source).sha256 != first.sha256


def test_a_lock_file_that_is_none_can_be_replaced(run: Run) -> None:
    """What the message tells to do works; until then the check fails."""
    write(NAME, "<<<<<<< ours")
    assert run("plugins", "lock", "--check").exit_code == 1
    assert "wrote" in run("plugins", "lock").output
    assert run("plugins", "lock", "--check").exit_code == 0


async def test_a_plugin_whose_file_is_not_there(run: Run) -> None:
    """Neither the command nor a locked host falls over it: both say which file."""
    run("plugins", "lock")
    move("mine.py", "gone.py")
    assert "its code cannot be read" in run("plugins", "lock").output
    with pytest.raises(ConfigError, match=r"its code cannot be read.*mine\.py"):
        await start()


async def test_any_name_of_a_file_can_be_locked(run: Run) -> None:
    """Quotes and backslashes too."""
    move("mine.py", odd := 'mi"ne\\.py')
    write("plughost.toml", f"[host]\nlocked = true\n[plugins.mine]\nplugin = './{odd}:Plugin'\n")
    run("plugins", "lock")
    await start()


class Finder:
    """Finds packages where no path leads, as some editable installs do."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        del path, target
        return spec_from_file_location(name, self.root / "__init__.py") if name == self.name else None


def test_a_pin_covers_what_is_imported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two folders of a namespace have the same module, Python takes the first, and so does the lock."""
    top = "plughost_lock_twice"
    for part in ("first", "second"):
        package = tmp_path / part / top / "inner"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(PLUGIN, "utf-8")
    info = tmp_path / "first" / f"{top}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {top}\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[plughost.plugins]\ntwice = {top}.inner:Plugin\n", "utf-8")
    (info / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}', "utf-8")
    for part in ("second", "first"):
        monkeypatch.syspath_prepend(str(tmp_path / part))
    source = discover()["twice"]
    before = pin(source)
    (tmp_path / "second" / top / "inner" / "__init__.py").write_text("import os", "utf-8")
    assert pin(source).sha256 == before.sha256
    (tmp_path / "first" / top / "inner" / "__init__.py").write_text("import os", "utf-8")
    assert pin(source).sha256 != before.sha256


@pytest.mark.parametrize("kind", ["namespace", "finder", "nowhere"])
def test_a_pin_covers_code_wherever_it_is_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A namespace package, or one that an editable install's finder knows; what cannot be found cannot be locked."""
    top = f"plughost_lock_{kind}"
    root = tmp_path / "elsewhere" / top if kind == "finder" else tmp_path / top
    package = root / "inner" if kind == "namespace" else root
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN, "utf-8")
    info = tmp_path / f"{top}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {top}\nVersion: 1\n", "utf-8")
    module = {"namespace": f"{top}.inner", "finder": top, "nowhere": "no_such_module"}[kind]
    (info / "entry_points.txt").write_text(f"[plughost.plugins]\n{kind} = {module}:Plugin\n", "utf-8")
    (info / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}', "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    if kind == "finder":
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder(top, root)])
    source = discover()[kind]
    if kind == "nowhere":
        with pytest.raises(PluginError, match="no code of it can be found"):
            pin(source)
        return
    first = pin(source)
    (package / "__init__.py").write_text("import os", "utf-8")
    assert pin(source).sha256 != first.sha256
