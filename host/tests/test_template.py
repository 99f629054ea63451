"""What `plughost new` writes."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from plughost import _template
from plughost._errors import PlughostError
from plughost._template import render, template_files


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "package"


def test_everything_is_renamed(target: Path) -> None:
    """Distribution, package, class, entry point and tests have the new name, and no file the template's."""
    assert render("sea-shanty", target) == target
    project = tomllib.loads((target / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == "plughost-sea-shanty"
    assert project["entry-points"]["plughost.plugins"] == {"sea-shanty": "plughost_sea_shanty:SeaShanty"}
    assert "class SeaShanty(MCPPlugin[SeaShantyConfig])" in (
        target / "src" / "plughost_sea_shanty" / "__init__.py"
    ).read_text("utf-8")
    files = [path for path in target.rglob("*") if path.is_file()]
    assert len(files) == len(template_files()) > 4
    for path in files:
        whole = path.relative_to(target).as_posix() + path.read_text("utf-8")
        assert not re.search("plugin[-_]?template", whole, re.IGNORECASE), path


def test_written_python_compiles(target: Path) -> None:
    """Every Python file of a new package is valid Python."""
    render("a1", target)
    sources = list(target.rglob("*.py"))
    assert len(sources) == 2
    for path in sources:
        compile(path.read_text("utf-8"), path, "exec")


def test_empty_folder_is_taken(target: Path) -> None:
    """A folder that is there and empty is filled."""
    target.mkdir()
    render("shanty", target)
    assert (target / "README.md").is_file()


def test_compiled_files_are_left_out(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installer compiled beside the template is no part of it."""
    installed = tmp_path / "installed"
    shutil.copytree(_template.SOURCE, installed)
    (installed / "tests" / "__pycache__").mkdir()
    (installed / "tests" / "__pycache__" / "compiled.pyc").write_bytes(b"\xff")
    monkeypatch.setattr(_template, "SOURCE", installed)
    render("shanty", target)
    assert (target / "tests").is_dir()
    assert not list(target.rglob("*.pyc"))


@pytest.mark.parametrize("name", ["", "Shanty", "sea_shanty", "1st", "-x", "x-", "a--b", "../x", "a b", "é", "x\n"])
def test_bad_name_is_refused(target: Path, name: str) -> None:
    """A name that no distribution, package and class can have is refused with what is allowed."""
    with pytest.raises(PlughostError, match="lower-case letters, digits and single '-'") as caught:
        render(name, target)
    assert repr(name) in str(caught.value)
    assert not target.exists()


def test_doubled_prefix_is_refused(target: Path) -> None:
    """A name with the prefix of the distribution is refused with the remedy."""
    with pytest.raises(PlughostError, match="leave out the 'plughost-'"):
        render("plughost-shanty", target)


@pytest.mark.parametrize("name", ["middleware", "phase", "call-next", "none", "true"])
def test_taken_class_is_refused(target: Path, name: str) -> None:
    """A name whose class would hide one that the package imports, or a keyword, is refused."""
    with pytest.raises(PlughostError, match="is taken; choose another"):
        render(name, target)


def test_folder_in_use_is_refused(target: Path) -> None:
    """A folder with something in it is left as it is."""
    target.mkdir()
    (target / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(PlughostError, match="is not an empty folder"):
        render("shanty", target)
    assert [path.name for path in target.iterdir()] == ["mine.txt"]


def test_file_in_the_way_is_refused(target: Path) -> None:
    """A file where the folder would be is left as it is."""
    target.write_text("mine", "utf-8")
    with pytest.raises(PlughostError, match="is not an empty folder"):
        render("shanty", target)


def test_unwritable_place_is_named(target: Path) -> None:
    """Where nothing can be written, the message names the place and the cause."""
    target.write_text("a file", "utf-8")
    with pytest.raises(PlughostError, match=r"cannot write the plugin into .*package/inside"):
        render("shanty", target / "inside")
