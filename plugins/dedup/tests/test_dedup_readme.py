"""The README's example runs, on a real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from plughost_dedup import IDEMPOTENCY_KEY, DedupConfig, DedupPlugin
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A hundred calls of a client at a served host are one execution."""
    README.followed(tmp_path).leave()


def test_keys_are_listed() -> None:
    """Each key of the config has a row, with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| `(.*?)` \|", README.section("Config"), re.MULTILINE))
    fields = DedupConfig.model_fields
    assert rows.keys() == fields.keys()
    for name, shown in rows.items():
        assert DedupConfig.model_validate({name: json.loads(shown)}) == DedupConfig(), name


def test_names_are_those_of_the_code() -> None:
    """The key in `_meta`, and the operations."""
    assert IDEMPOTENCY_KEY in json.loads(README.blocks("json")[0])["_meta"]
    shown = re.findall(r"`plughost ctl dedup (\w+)`", README.text)
    assert shown == [operation.name for operation in DedupPlugin(name="dedup").plughost_operations()]
