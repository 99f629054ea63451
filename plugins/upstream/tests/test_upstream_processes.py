"""No child outlives what started it (L2)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from upstreams.clients import LEGACY, Client
from upstreams.running import LEGACY_STDIO, Upstreams, until

pytestmark = pytest.mark.anyio

CYCLES = int(os.environ.get("PLUGHOST_CYCLES", "20"))
"""Of the loop below. For the 1,000 of L2: `PLUGHOST_CYCLES=1000 pytest -k many_cycles --timeout 0`."""


def descendants() -> set[int]:
    """The processes below this one that are no zombies, by what the kernel says."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def group_members(group: int) -> list[int]:
    """The processes of a group that are no zombies, wherever they hang by now."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[2]) == group:
            members.append(int(stat.parent.name))
    return members


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def group_of(provider: object) -> int:
    result = await Client(LEGACY).tool(provider, "count")
    group: int = result["structuredContent"]["pid"]
    return group


async def test_no_orphans_after_many_cycles(upstreams: Upstreams) -> None:
    """Starting and stopping an upstream that has a child of its own leaves no process and no file open (L2)."""
    before, files = descendants(), open_files()
    groups = []
    for _ in range(CYCLES):
        one = await upstreams.one(command=[*LEGACY_STDIO, "--brood"])
        groups.append(await group_of(one.provider))
        await one.stop()
    upstreams.started.clear()
    await upstreams.plugin.unregister()
    assert len(set(groups)) == CYCLES
    assert [group for group in groups if group_members(group)] == []
    assert descendants() <= before
    assert open_files() <= files + 3  # the event loop makes some of its own at the first child


async def test_deaf_child_is_killed(upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ignores the end of its stdin and SIGTERM is killed, with its children (L2)."""
    monkeypatch.setattr("plughost_upstream._stdio.STOP_GRACE", 0.2)
    one = await upstreams.one(command=[*LEGACY_STDIO, "--deaf", "--brood"])
    group = await group_of(one.provider)
    assert len(group_members(group)) == 2
    await one.stop()
    assert group_members(group) == []


async def test_crashed_child_takes_its_children_along(upstreams: Upstreams) -> None:
    """When a child is killed its own children do not stay (L2)."""
    one = await upstreams.one(command=[*LEGACY_STDIO, "--brood"])
    group = await group_of(one.provider)
    os.kill(group, signal.SIGKILL)
    await until(lambda: group_members(group) == [])


HOST = """
import anyio, json, sys
from upstreams.clients import LEGACY, Client
from upstreams.running import Upstreams

async def main():
    upstreams = Upstreams()
    async with anyio.create_task_group() as upstreams.tasks:
        one = await upstreams.one(command=json.loads(sys.argv[1]))
        result = await Client(LEGACY).tool(one.provider, "count")
        print(result["structuredContent"]["pid"], flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
async def test_children_die_with_a_killed_host(sign: signal.Signals) -> None:
    """A host that is killed with SIGKILL, or stopped and then killed, takes children and grandchildren along (L2)."""
    command = json.dumps([*LEGACY_STDIO, "--deaf", "--brood"])
    path = os.pathsep.join(filter(None, sys.path))
    host = subprocess.Popen(  # noqa: ASYNC220 - the test waits for it
        [sys.executable, "-c", HOST, command],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    with host:
        assert host.stdout is not None
        group = int(await anyio.to_thread.run_sync(host.stdout.readline))
        assert len(group_members(group)) == 2
        host.send_signal(sign)
        host.kill()
    await until(lambda: group_members(group) == [])


async def test_killed_reaper_is_replaced(upstreams: Upstreams) -> None:
    """The process that watches over the children is started again if somebody kills it (L2)."""
    first, second = LEGACY_STDIO, [*LEGACY_STDIO, "--brood"]
    await upstreams.start(first={"command": first})
    guard = upstreams.plugin._guard
    assert guard._process is not None
    before = guard._process.pid
    guard._process.kill()
    guard._process.wait()
    await upstreams.start(second={"command": second})
    assert guard._process.pid != before
    assert guard._process.poll() is None
