"""The README's examples run; its table holds what there is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from plughost_auth import AuthConfig, IssuerConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host refuses who has no token, and knows who has one, as the README shows."""
    README.followed(tmp_path).leave()


def test_keys_are_listed() -> None:
    """Each key of the config stands in the table, each of an issuer below it, and the longer example is valid."""
    assert set(README.rows("Config")) == set(AuthConfig.model_fields)
    described = README.text.partition("An identity is")[2].partition("## Operations")[0]
    assert [key for key in IssuerConfig.model_fields if f"`{key}`" not in described] == []
    AuthConfig.model_validate(tomllib.loads(README.blocks("toml")[1])["plugins"]["auth"])
