"""What tests of the host share."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest


class Site:
    """A folder of installed distributions, as an installer leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def install(
        self,
        name: str,
        plugins: Mapping[str, str] | None = None,
        *,
        modules: Mapping[str, str] | None = None,
        commands: Mapping[str, str] | None = None,
        version: str = "1.0",
        summary: str = "A test plugin.",
        requires: Iterable[str] = (),
    ) -> None:
        """Write metadata, entry points and modules of one distribution."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        needed = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n{needed}"
        )
        groups = {"plughost.plugins": plugins or {}, "plughost.commands": commands or {}}
        lines = [
            line
            for group, items in groups.items()
            for line in (f"[{group}]", *(f"{k} = {v}" for k, v in items.items()))
        ]
        info.joinpath("entry_points.txt").write_text("\n".join(lines))
        for module, source in (modules or {}).items():
            self.modules.append(module)
            self.folder.joinpath(f"{module}.py").write_text(dedent(source))
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site folder, first on `sys.path`, of this process and of its children."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    site = Site(folder)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)
