"""The README's example runs, and its table holds what there is."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner
from plughost_pinning import PinningConfig
from plughost_pinning.cli import pins

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def test_two_minutes(tmp_path: Path) -> None:
    """Approve, verify, let the server turn, verify again: word for word what it prints."""
    (server,), (config, *_), (_, approved, turned) = blocks("python"), blocks("toml"), blocks("console")
    path = tmp_path / "plughost.toml"
    poison = re.search(r'`("""Add a note\. <.*?""")`', README)
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
    table = README.partition("## Config")[2].partition("## ")[0]
    own = set(PinningConfig.model_fields) - {"fail_mode", "mode"}
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == own
