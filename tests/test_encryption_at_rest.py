"""Everything that stores, with the encryption plugin: files and Redis are searched for what was said in a call."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from plughost import create_host
from plughost_testing import ScriptedProvider, make_call, text
from plughost_testing.services import Redis, Stack

pytestmark = [pytest.mark.anyio, pytest.mark.services]

TOOL, NOTE, ARGUMENT, RESULT, READ = "sesame_tool", "note://sesame", "sesame-said", "sesame-answered", "sesame-read"
KEY = base64.b64encode(bytes(range(32))).decode()


def storing(folder: Path, redis: Redis) -> dict[str, Any]:
    """Tables of all plugins that write something down, and as much of it as they can."""
    kept = {"tools": {TOOL: "1h"}, "resources": {"note://*": "1h"}}
    return {
        "events": {"url": f"sqlite:///{folder}/events.db", "durability": "sync", "arguments": ["text"]},
        "snapshots": {"every": 2},
        "disk": {"plugin": "cache", "url": f"sqlite:///{folder}/cache.db", **kept},
        "shared": {"plugin": "cache", "url": redis.url, **kept},
        "dedup": {"url": redis.url, "window": 60, "tools": [TOOL]},
        "bus": {"url": redis.url},
        "rate-limit": {"limit": "100/minute", "url": redis.url},
        "circuit-breaker": {"url": redis.url},
    }


def said_in(*folders: Path) -> set[str]:
    written = b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())
    return {word for word in (TOOL, NOTE, ARGUMENT, RESULT, READ) if word.encode() in written}


@pytest.mark.parametrize("sealed", [False, True])
async def test_nothing_of_a_call_is_legible_where_it_is_stored(tmp_path: Path, stack: Stack, *, sealed: bool) -> None:
    """Neither what was asked nor what was answered, in any file or on the Redis server; without keys all is (G6)."""
    redis = stack.start(Redis())
    provider = ScriptedProvider("notes", tools=[TOOL], resources=[NOTE])
    provider.script(TOOL, *[text(RESULT)] * 9)
    provider.script(NOTE, *[{"contents": [{"uri": NOTE, "text": READ}], "ttlMs": 60_000}] * 9)
    plugins = storing(tmp_path, redis)
    if sealed:
        plugins["encryption"] = {"keys": [KEY], "data_keys": str(tmp_path / "keys.db")}
    config = {"host": {"control": False}, "plugins": plugins}
    async with create_host(config, providers={"notes": provider}) as host:
        for number in range(4):
            arguments = {"text": ARGUMENT, "number": number // 2}
            await host.dispatch(make_call("tools/call", {"name": TOOL, "arguments": arguments}))
            await host.dispatch(make_call("resources/read", {"uri": NOTE}))
    said = said_in(tmp_path, redis.folder)
    assert said == set() if sealed else said >= {TOOL, ARGUMENT, RESULT, READ}
