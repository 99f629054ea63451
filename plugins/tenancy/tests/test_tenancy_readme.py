"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_tenancy import TenancyConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host shows each tenant what the README says; the example of a limit for one tenant is valid too."""
    with README.followed(tmp_path) as reader:
        reader.write("".join(README.blocks("toml")), "plughost.toml")
        reader.type("plughost config check")


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    table = README.text.partition("| key |")[2].partition("\n\n")[0]
    assert [name for name in TenancyConfig.model_fields if f"`{name}`" not in table] == []
