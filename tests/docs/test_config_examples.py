"""The configurations that pages show are valid with what is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs.examples import EXAMPLES, plughost

HOSTS = [path for path in EXAMPLES.rglob("*.toml") if path.parent.name != "client"]
CONFIGS = sorted(path.relative_to(EXAMPLES).as_posix() for path in HOSTS)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plughost config check` accepts it, the plugins' own keys too."""
    monkeypatch.setenv("STATE_KEY", "k" * 32)
    monkeypatch.setenv("STATE_KEY_BEFORE", "b" * 32)
    folder = shutil.copytree((EXAMPLES / name).parent, tmp_path / "copy")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "search-token").write_text("token\n")
    assert ": ok (" in plughost("config", "check", "--config", str(folder / Path(name).name))
