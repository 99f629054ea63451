"""What is written otherwise, and means the same or something else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost.spelling import plain, usual


@pytest.mark.parametrize(
    "path",
    [
        "../b",
        "a/../b",
        "a/..",
        "..",
        "a\\..\\b",
        "%2e%2e/b",
        "a%2f..%2fb",
        "a/%252e%252e/b",
        "a/.%2e/b",
        "a/..;/b",
        "a/..;x=1/b",
        "a/..?b",
        "a/.\t./b",
        "a/..\n",
        " ../b",
        "a/%2e%09%2e/b",
    ],
)
def test_what_leads_elsewhere_is_not_plain(path: str) -> None:
    """However a `..` is written."""
    assert not plain(path)


@given(st.text("ab. %/", max_size=10), st.integers(0, 3))
def test_encoding_hides_nothing(path: str, times: int) -> None:
    """A text is as plain encoded as it is not."""
    encoded = path
    for _ in range(times):
        encoded = quote(encoded, safe="")
    if plain(encoded):
        assert ".." not in path.split("/")


@pytest.mark.parametrize(
    "text",
    [
        "note://Secret/1",
        "NOTE://secret/1",
        "note://%73ecret/1",
        "note://%2573ecret/1",
        "note:////./secret\\\\1",
        "note:/secret/./1",
        "note://sec\tret/1",
        "note://sec%0Aret/1",
        " note://secret/1\x00",
    ],
)
def test_what_means_the_same_is_written_alike(text: str) -> None:
    """To servers that decode, pass over empty segments and `.`, drop what no URI holds, or know no case."""
    assert usual(text) == usual("note://secret/1")


@pytest.mark.parametrize("part", ["a", "/", "%252f", "%252541", "..."])
def test_what_is_too_long_is_not_looked_at(part: str) -> None:
    """Looking at four megabytes of it would hold up everybody for seconds, for each rule; short ones are."""
    assert plain(part * 9)
    assert not plain(part * 8193)


@given(st.text("aB.%2fF/\\", max_size=12))
def test_what_is_written_as_usual_stays(text: str) -> None:
    """Once more changes nothing, unless it is encoded more often than anybody decodes."""
    once = usual(text)
    if plain(text) and "%" not in once:
        assert usual(once) == once
