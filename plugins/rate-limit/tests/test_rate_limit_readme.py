"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plughost_rate_limit import RateLimitConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host refuses the call that the README says; the operations tell who it was, and give the quota back."""
    with README.followed(tmp_path) as reader:
        (refused,) = json.loads(reader.type("plughost ctl rate-limit show"))["refused_most"]
        assert refused == {"identity": "address:127.0.0.1", "refused": 1}
        reset = json.loads(reader.type(f"plughost ctl rate-limit reset identity={refused['identity']}"))
        assert reset["remaining"] == 3


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    assert set(README.rows("Config")) == set(RateLimitConfig.model_fields)
