"""The file of dead letters: bounded, private, and shared between processes."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from plughost_bus._dead_letters import DeadLetters, Letter


def letter(number: int, webhook: str = "ops") -> Letter:
    return Letter(webhook, f"m{number}", '{"größe": 1}', "status 500", 8, 1e9)


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    """What is taken is what was added, oldest first; what is of another webhook, or too much, stays."""
    dead = DeadLetters(tmp_path / "new" / "dead.jsonl", 10_000)
    dead.add([letter(1), letter(2, "other"), letter(3)])
    dead.add([letter(4)])
    assert dead.take("ops", 2) == [letter(1), letter(3)]
    assert dead.count() == 2
    assert dead.take("ops", 9) == [letter(4)]
    assert dead.take("ops", 9) == []
    assert dead.take("other", 9) == [letter(2, "other")]


def test_is_private(tmp_path: Path) -> None:
    """Nobody but its owner reads what went wrong with a host (G6)."""
    dead = DeadLetters(tmp_path / "dead.jsonl", 10_000)
    dead.add([letter(1)])
    dead.take("other", 1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two files of the largest size at most; the newest letters are kept, and a loss is logged."""
    dead = DeadLetters(tmp_path / "dead.jsonl", 1000)
    for number in range(50):
        dead.add([letter(number)])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    kept = dead.take("ops", 99)
    assert kept == [letter(number) for number in range(50 - len(kept), 50)]
    assert "whose letters are lost" in caplog.text
    assert dead.count() == 0


def test_writers_do_not_harm_each_other(tmp_path: Path) -> None:
    """Processes that share the file lose nothing, whoever adds and whoever takes."""
    path = tmp_path / "dead.jsonl"

    def work(number: int) -> int:
        dead = DeadLetters(path, 10**6)
        taken = 0
        for index in range(20):
            dead.add([letter(number * 100 + index)])
            taken += len(dead.take("ops", 1)) if index % 4 == 0 else 0
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = sum(threads.map(work, range(4)))
    assert taken + DeadLetters(path, 10**6).count() == 80


def test_a_broken_line_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line cut short by a crash is named in the log, and costs no other."""
    path = tmp_path / "dead.jsonl"
    dead = DeadLetters(path, 10_000)
    dead.add([letter(1)])
    path.write_text(path.read_text() + '{"webhook": "op')
    dead.add([letter(2)])
    assert dead.take("ops", 9) == [letter(1), letter(2)]
    assert "line 2 is no letter" in caplog.text
