"""The README's example runs, on a real `plughost serve`; its table holds what there is."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from mcp import Client
from plughost_pool import PoolConfig
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(tmp_path: Path) -> None:
    """A served host with the README's plugin counts a call through a pool that the operator sees."""

    async def add(url: str) -> None:
        async with Client(url) as client:
            await client.call_tool("add", {"text": "milk"})

    with README.followed(tmp_path) as reader:
        anyio.run(add, reader.url)
        with closing(sqlite3.connect(tmp_path / "visits.db")) as database:
            assert database.execute("SELECT tool FROM visits").fetchall() == [("add",)]
        pools = json.loads(reader.type("plughost ctl pool show"))["pools"]
    assert [(pool["name"], pool["idle"], pool["max_size"]) for pool in pools] == [("visits", 1, 3)]


def test_keys_are_listed() -> None:
    """Each key of the config has its row in the table."""
    assert README.rows("Config") == list(PoolConfig.model_fields)
