"""Whose line is it: what an upstream's connection has to say belongs to no request, whichever of them opened it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from anyio.to_thread import run_sync
from mcp import Client
from plughost import create_host
from plughost_testing.services.service import wait_until
from upstreams.running import SDK_STDIO

pytestmark = pytest.mark.anyio

LIMIT = 20.0


async def test_a_connection_that_a_call_opened_is_lost_without_that_call(tmp_path: Path) -> None:
    """The first client of another era makes the host start a second process; that it dies later is not its story."""
    path = tmp_path / "log"
    before = set(psutil.Process().children(recursive=True))
    config = {
        "providers": {"both": {"command": list(SDK_STDIO)}},
        "plugins": {"upstream": {"retry_min": "30s"}, "logs": {"path": str(path)}},
    }

    def losses() -> list[dict[str, Any]]:
        lines = map(json.loads, path.read_text("utf-8").splitlines())
        return [line for line in lines if "is lost" in line["message"]]

    async with create_host(config) as host:
        for mode in ("legacy", "auto"):
            async with Client(host.front, mode=mode) as client:
                await client.list_tools()
        for process in set(psutil.Process().children(recursive=True)) - before:
            process.kill()
        assert await run_sync(wait_until, lambda: len(losses()) == 2, LIMIT)
    assert [line.get("mcp") for line in losses()] == [None, None]
