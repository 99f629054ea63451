"""The README's example runs on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_encryption import EncryptionConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """The client gets its answer, and the files of the cache hold none of it."""
    with README.followed(tmp_path, done_already=["cat cache.db* | grep -c plants"]):
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("cache.db*"))
        assert len(stored) > 1000
        assert b"plants" not in stored
        assert (tmp_path / "data-keys.db").stat().st_size > 0


def test_keys_are_listed() -> None:
    """Each key of the config has a row."""
    assert README.rows("Config") == list(EncryptionConfig.model_fields)
