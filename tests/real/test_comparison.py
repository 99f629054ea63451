"""What counts as the same answer."""

from __future__ import annotations

from typing import Any

from real.comparison import STAMP, differences
from real.talk import Conversation, Step

STEPS = (Step("tools/call", {"name": "echo"}),)


def talk(result: dict[str, Any], *progress: dict[str, Any], version: str = "2026-07-28") -> Conversation:
    return Conversation(version, [{"result": result, "progress": list(progress)}])


def same(direct: Conversation, through: Conversation) -> bool:
    return list(differences(STEPS, direct, through)) == []


def test_equal_results_are_the_same() -> None:
    """Two equal answers differ in nothing."""
    assert same(talk({"content": [1]}), talk({"content": [1]}))


def test_who_signed_a_result_does_not_matter() -> None:
    """The host puts its own identity in place of the server's."""
    assert same(talk({"_meta": {STAMP: {"name": "server"}}}), talk({"_meta": {STAMP: {"name": "host"}}}))
    assert same(talk({"_meta": {STAMP: {"name": "server"}}}), talk({}))


def test_other_meta_matters() -> None:
    """What a server says beside its identity has to arrive."""
    assert not same(talk({"_meta": {"example.org/a": 1}}), talk({}))
    assert not same(talk({}), talk({"_meta": {"example.org/a": 1}}))


def test_a_different_result_is_named_with_its_step() -> None:
    """The line shows the request, and both answers around where they part."""
    (line,) = differences(STEPS, talk({"content": [1]}), talk({"content": [2]}))
    assert line.startswith("tools/call {'name': 'echo'}, from character 0:")
    assert 'direct  {"progress": [], "result": {"content": [1]}}' in line
    assert 'through {"progress": [], "result": {"content": [2]}}' in line


def test_the_envelope_matters_within_one_revision() -> None:
    """How long a list may be cached is the server's word where both speak the same revision."""
    assert not same(talk({"ttlMs": 5}), talk({"ttlMs": 0}))


def test_the_envelope_is_left_out_between_revisions() -> None:
    """A server of 2025-11-25 cannot say what 2026-07-28 puts around a result."""
    old = talk({"content": [1]}, version="2025-11-25")
    assert same(old, talk({"content": [1], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}))


def test_a_tool_says_nothing_of_tasks_between_revisions() -> None:
    """Whether a tool can run as a task is a word of 2025-11-25 alone; the rest of the tool is compared."""
    tools = [{"name": "echo", "execution": {"taskSupport": "forbidden"}}]
    assert same(talk({"tools": tools}, version="2025-11-25"), talk({"tools": [{"name": "echo"}]}))
    assert not same(talk({"tools": tools}, version="2025-11-25"), talk({"tools": [{"name": "shout"}]}))
    assert not same(talk({"tools": tools}), talk({"tools": [{"name": "echo"}]}))


def test_progress_matters_but_for_its_last() -> None:
    """Progress on the way has to arrive; the last may be told after the result."""
    first, last = {"progress": 1, "total": 2}, {"progress": 2, "total": 2}
    assert same(talk({}, first, last), talk({}, first))
    assert not same(talk({}, first, last), talk({}, last))
