"""The page "Write a plugin" works to the letter, in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from following import Reader
from installation import REPOSITORY, UV


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the wheels that the page takes from the index, as they are here."""
    for name in ("plughost", "plughost-testing"):
        build = [*UV, "build", "--quiet", "--wheel", f"--package={name}", f"--out-dir={tmp_path / 'wheels'}"]
        subprocess.run(build, cwd=REPOSITORY, check=True)
    return tmp_path / "wheels"


@pytest.fixture
def newcomer(tmp_path: Path, wheels: Path) -> Reader:
    """Somebody with an empty folder, and with Python and pip alone."""
    (tmp_path / "folder").mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    links = f"{wheels} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    python = Path(sys.base_prefix) / "bin"
    path = os.pathsep.join([str(python), "/usr/local/bin", "/usr/bin", "/bin"])
    return Reader(tmp_path / "folder", {**kept, "PATH": path, "PIP_FIND_LINKS": links})


@pytest.mark.timeout(600)
def test_the_page_works_to_the_letter(newcomer: Reader) -> None:
    """Each command does and prints what the page says, from the empty folder to the plugin installed elsewhere."""
    newcomer.follow("how-to/write-a-plugin.md")
    assert (newcomer.folder / "dist" / "plughost_trim-0.1.0-py3-none-any.whl").is_file()
