"""`plughost events`, without a running host."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from event_stores import open_store, tamper
from plughost._cli import cli
from plughost_events import NewEvent
from plughost_testing import Backend, on_backends

pytestmark = pytest.mark.anyio


class Shell:
    """Runs the command on a config beside its store."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.folder = folder
        self.configure(f'[host]\nname = "acme"\n[plugins.audit]\nplugin = "events"\nurl = "{url}"\n')

    def configure(self, config: str) -> None:
        (self.folder / "plughost.toml").write_text(config)

    def run(self, *arguments: str) -> Result:
        command = ["events", *arguments, "--config", str(self.folder / "plughost.toml")]
        return CliRunner().invoke(cli, command)

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]


CALL = {"method": "tools/call", "target": "add", "outcome": "success", "duration_us": 5}


async def fill(url: str) -> None:
    async with open_store(url) as store:
        for number in range(3):
            await store.append("principal:ada", [NewEvent("call.completed", CALL, id=f"e{number}", time=100 + number)])
        await store.append("host:acme", [NewEvent("host.started", {"subject": "acme"}, time=86_400 * 2)])


@pytest.fixture
async def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path, f"sqlite:///{tmp_path}/audit.db")
    await fill(shell.url)
    return shell


async def test_tail_prints_the_newest(shell: Shell) -> None:
    """One line for each event, or JSON."""
    done = shell.run("tail", "-n", "2")
    first, second = done.output.splitlines()
    assert first.split() == (
        ["3", "1970-01-01T00:01:42.000000Z", "call.completed", "principal:ada", "tools/call", "add", "success"]
    )
    assert "host.started" in second
    assert [line["position"] for line in shell.lines("tail", "-n", "2", "--json")] == [3, 4]


@pytest.mark.parametrize("what", ["2", "e1"])
async def test_show_prints_one_event(shell: Shell, what: str) -> None:
    """By position or by id."""
    shown = json.loads(shell.run("show", what).output)
    assert (shown["position"], shown["id"], shown["data"]) == (2, "e1", CALL)


async def test_show_prints_a_stream(shell: Shell) -> None:
    """All its events; a name that is unknown is an error with names that are near."""
    assert [line["version"] for line in shell.lines("show", "principal:ada", "--json")] == [1, 2, 3]
    done = shell.run("show", "principal:adb")
    assert done.exit_code == 1
    assert "'principal:adb' is no position, id or stream of sqlite" in str(done.output) + str(done.exception)
    assert "there are for example principal:ada" in str(done.output) + str(done.exception)


@on_backends("sqlite", "postgresql")
async def test_verify_names_the_event_that_was_altered(backend: Backend, tmp_path: Path) -> None:
    """Exit code 0 and the head while all is as it was stored; 1 and the event's name if one was altered (G8)."""
    shell = Shell(tmp_path, backend.url)
    await fill(backend.url)
    done = shell.run("verify")
    assert done.exit_code == 0
    (head,) = re.findall(r"^no fault in positions 1 to 4; head (4:[0-9a-f]{64})$", done.output, re.MULTILINE)
    assert shell.run("verify", "--anchor", head).exit_code == 0
    tamper(backend.url, "UPDATE plughost_events SET data = ? WHERE id = 'e1'", json.dumps(CALL).encode())
    done = shell.run("verify")
    assert done.exit_code == 1
    assert "position 2: event e1 (call.completed, principal:ada version 2) was altered" in done.output
    found = json.loads(shell.run("verify", "--json").output)
    assert (found["ok"], [fault["position"] for fault in found["faults"]]) == (False, [2])


async def test_verify_checks_anchor_and_archive(shell: Shell, tmp_path: Path) -> None:
    """Archived files must lead up to the store; an anchor must be in the chain (G8)."""
    async with open_store(shell.url) as store:
        await store.prune(102, tmp_path / "archive")
    done = shell.run("verify", "--archive", str(tmp_path / "archive"))
    assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "archive").iterdir()
    file.rename(tmp_path / "elsewhere")
    done = shell.run("verify", "--archive", str(tmp_path / "archive"))
    assert done.exit_code == 1
    assert "the files do not lead up to where the store begins" in done.output
    assert shell.run("verify", "--anchor", f"3:{'0' * 64}").exit_code == 1
    assert "'nonsense' is not POSITION:HASH" in shell.run("verify", "--anchor", "nonsense").output


async def test_export_prints_json_lines(shell: Shell) -> None:
    """One JSON object a line, with `method`; all of it, a stream, or from a place or time on."""
    lines = shell.lines("export")
    assert [line["method"] for line in lines] == ["tools/call"] * 3 + [None]
    assert lines[0] == {
        "position": 1,
        "id": "e0",
        "stream": "principal:ada",
        "version": 1,
        "time": "1970-01-01T00:01:40.000000Z",
        "type": "call.completed",
        "method": "tools/call",
        "schema": 1,
        "data": CALL,
        "hash": lines[0]["hash"],
    }
    assert [line["position"] for line in shell.lines("export", "--after", "2")] == [3, 4]
    assert [line["position"] for line in shell.lines("export", "--since", "1970-01-02")] == [4]
    assert [line["version"] for line in shell.lines("export", "--stream", "principal:ada", "--after", "1")] == [2, 3]


async def test_export_prints_cloud_events(shell: Shell) -> None:
    """CloudEvents 1.0: the required attributes, and names of extensions in lower case letters and digits alone."""
    first, *_ = shell.lines("export", "--format", "cloudevents")
    assert {"specversion", "id", "source", "type"} <= first.keys()
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in first)
    assert (first["source"], first["type"], first["subject"]) == (
        "urn:plughost:acme",
        "plughost.call.completed",
        "principal:ada",
    )
    assert (first["sequence"], first["method"], first["data"]) == ("00000000000000000001", "tools/call", CALL)


async def test_replay_makes_the_state_anew(shell: Shell) -> None:
    """With the built-in reducer, or one of the user's beside the config."""
    assert json.loads(shell.run("replay").output)["types"] == {"call.completed": 3, "host.started": 1}
    state = json.loads(shell.run("replay", "--stream", "principal:ada", "--until", "2").output)
    assert (state["calls"], state["targets"]) == (2, {"add": 2})
    (shell.folder / "event_times.py").write_text("def last(state, event):\n    return {'last': event.time}\n")
    try:
        assert json.loads(shell.run("replay", "--reducer", "event_times:last").output) == {"last": 172800.0}
    finally:
        sys.path.remove(str(shell.folder))
    assert "the reducer 'nonsense' failed" in _complaint(shell.run("replay", "--reducer", "nonsense"))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("", r"has no \[plugins\.events\] that is the plugin events; add it"),
        ('[plugins.events]\nurl = "sqlite:///nowhere.db"\n', r"there is no store at .*nowhere\.db"),
        ('[plugins.events]\nurl = "memory://"\n', r"the events are in the host's memory; ask it: plughost ctl"),
        (
            '[plugins.events]\nurl = "sqlite:///plughost.toml"\n',
            r"cannot be read: DatabaseError: file is not a database",
        ),
    ],
)
async def test_what_is_wrong_is_told(tmp_path: Path, config: str, complaint: str) -> None:
    """A message, no traceback; and no empty store is made by looking."""
    shell = Shell(tmp_path, "memory://")
    shell.configure(config)
    done = shell.run("tail")
    assert done.exit_code != 0
    assert re.search(complaint, _complaint(done))
    assert not (tmp_path / "nowhere.db").exists()


def _complaint(done: Result) -> str:
    return f"{done.output} {done.exception}"


def test_help_names_every_command() -> None:
    """Each with a line of its own."""
    done = CliRunner().invoke(cli, ["events", "--help"])
    commands: Sequence[str] = ("tail", "show", "verify", "export", "replay")
    assert all(re.search(rf"^  {command}  +\w", done.output, re.MULTILINE) for command in commands)
