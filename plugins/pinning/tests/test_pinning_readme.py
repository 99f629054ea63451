"""The README's example runs, and its table holds what there is."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner
from plughost_pinning import PinningConfig
from plughost_pinning.cli import pins
from readmes import Readme

README = Readme(__file__)


def test_two_minutes(tmp_path: Path) -> None:
    """Approve, verify, let the server turn, verify again: word for word what it prints."""
    (server,), (config, *_), (_, approved, turned) = (
        README.blocks("python"),
        README.blocks("toml"),
        README.blocks("console"),
    )
    path = tmp_path / "plughost.toml"
    poison = re.search(r'`("""Add a note\. <.*?""")`', README.text)
    assert poison is not None
    for console, text, module in (
        (approved, server, "readme_notes"),
        (turned, server.replace('"""Add a note."""', poison[1]), "readme_turned"),
    ):
        (tmp_path / f"{module}.py").write_text(text)
        path.write_text(config.replace("notes_server", module))
        for command, output in re.findall(r"^\$ plughost pins (.*)\n((?:[^$].*\n)*)", console, re.MULTILINE):
            first, *rest = command.split()
            assert CliRunner().invoke(pins, [first, "--config", str(path), *rest]).output == output


def test_keys_are_listed() -> None:
    """Each key of the config has a row."""
    assert set(README.rows("Config")) == set(PinningConfig.model_fields) - {"fail_mode", "mode"}
