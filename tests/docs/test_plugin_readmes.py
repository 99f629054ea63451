"""All READMEs of packages have one shape, so that who has read one finds his way in the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.examples import REPOSITORY

READMES = [REPOSITORY / "host/README.md", *sorted((REPOSITORY / "plugins").glob("*/README.md"))]
ORDER = (
    "In two minutes",
    "What you get",
    "Config",
    "Operations",
    "Metrics",
    "In your own plugin",
    "Limits",
    "Dependencies",
)
"""What headings begin with; parts of a package's own may stand between them."""
ALWAYS = {"In two minutes", "What you get", "Limits", "Dependencies"}


def named(path: Path) -> str:
    return path.parent.name


def parts(readme: Path) -> list[str]:
    """The known parts of a README, in its order."""
    headings = re.findall(r"^## (.*)$", readme.read_text("utf-8"), re.MULTILINE)
    return [name for heading in headings for name in ORDER if heading.startswith(name)]


@pytest.mark.parametrize("readme", READMES, ids=named)
def test_the_parts_stand_in_one_order(readme: Path) -> None:
    """Parts that several READMEs have stand in the same order in each."""
    assert parts(readme) == sorted(parts(readme), key=ORDER.index)


@pytest.mark.parametrize("readme", [path for path in READMES if named(path) != "testing"], ids=named)
def test_no_part_is_missing(readme: Path) -> None:
    """Each says what one gets, what it cannot do, and what it depends on; the kit's is a list of what it has."""
    assert ALWAYS.difference(parts(readme)) == set()
    has_plugin = 'entry-points."plughost.plugins"' in (readme.parent / "pyproject.toml").read_text("utf-8")
    assert ("Config" in parts(readme)) == (has_plugin or named(readme) == "host")
