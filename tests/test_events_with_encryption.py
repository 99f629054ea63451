"""Events and snapshots with the encryption plugin: nothing in the file is legible, and it verifies without keys."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from event_stores import collected
from plughost import Host, create_host
from plughost_events import EventStore
from plughost_testing import ScriptedProvider, make_call

pytestmark = pytest.mark.anyio

WORD = "sesame_tool"


def hosting(folder: Path, **plugins: Any) -> Host:
    events = {"url": f"sqlite:///{folder}/events.db", "durability": "sync"}
    config = {"host": {"control": False}, "plugins": {"events": events, "snapshots": {"every": 2}, **plugins}}
    return create_host(config, providers={"notes": ScriptedProvider("notes", tools=[WORD])})


def written_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_snapshot_that_nobody_sealed_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever can write into the database could have made it; all is read again from the events."""
    async with hosting(tmp_path) as host:
        for _ in range(4):
            await host.dispatch(make_call("tools/call", {"name": WORD}))
        await host.run_operation("snapshots", "take", {"stream": "principal:anonymous"})
    async with hosting(tmp_path, encryption={"keys": [base64.b64encode(bytes(range(32))).decode()]}) as host:
        state = await host.run_operation("snapshots", "state", {"stream": "principal:anonymous"})
        assert (state["snapshot"], state["state"]["targets"]) == (0, {WORD: 4})
    assert "it is not sealed" in caplog.text


async def test_nothing_legible_is_stored(tmp_path: Path) -> None:
    """With a key all is read as it was; without it events keep their place and the chain verifies (G6, G8)."""
    key = base64.b64encode(bytes(range(32))).decode()
    async with hosting(tmp_path, encryption={"keys": [key]}) as host:
        for _ in range(4):
            await host.dispatch(make_call("tools/call", {"name": WORD}))
        found = await host.run_operation("snapshots", "take", {"stream": "principal:anonymous"})
        state = await host.run_operation("snapshots", "state", {"stream": "principal:anonymous"})
        assert (found["version"], state["snapshot"], state["state"]["targets"]) == (4, 4, {WORD: 4})
    assert WORD.encode() not in written_in(tmp_path)
    async with hosting(tmp_path) as host:
        store = host.get(EventStore)  # type: ignore[type-abstract]  # shared under its protocol
        events = await collected(store.read_stream("principal:anonymous"))
        assert [event.data for event in events] == [None] * 4
        assert not (await store.verify()).faults
