"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plughost_chaos import ChaosConfig, FaultTable
from plughost_chaos._config import KINDS
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host fails the call that the README says; its operations count, and the README's ends the faults."""
    with README.followed(tmp_path) as reader:
        shown = json.loads(reader.type("plughost ctl chaos show"))
        assert (shown["injected"]["error"], shown["paused"]) == (1, True)
        assert json.loads(reader.type("plughost ctl chaos set-seed seed=7"))["seed"] == 7
        reader.type("python client.py", "Kept 'water'.\nKept 'soil'.\nKept 'light'.\n")


def test_keys_are_listed() -> None:
    """Each key of the config, each of a fault, and each kind has its place in a table."""
    common = {"kind", "target", "methods", "rate", "on"}
    assert set(README.rows("Config")) == {*ChaosConfig.model_fields, *common, *KINDS}
    own = README.text.partition("| kind |")[2].partition("\n\n")[0]
    assert [key for key in FaultTable.model_fields.keys() - common if f"`{key}`" not in own] == []
