"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_rbac import RBACConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """The rule is explained as the README says, and a served host lists, answers and refuses as it says."""
    README.followed(tmp_path).leave()


def test_keys_are_listed() -> None:
    """Each key of the config has its place in the table."""
    table = README.text.partition("| key |")[2].partition("\n\n")[0]
    assert [name for name in RBACConfig.model_fields if f"`{name}`" not in table] == []
