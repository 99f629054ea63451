"""Answers as bytes, and as records."""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_cache._body import HINT, as_json, from_other, handed_out, pack, unpack
from plughost_cache._record import Record, decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
RECORD = Record(b'{"a": "' + b"b" * 5000 + b'"}', 1.5, 2.5, True, b"v" * 24)


class Box:
    """Seals by name: the context must be the same."""

    def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
        return context + b"|" + plaintext[::-1]

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        if not sealed.startswith(context + b"|"):
            raise RuntimeError("forged")
        return sealed[len(context) + 1 :][::-1]


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5))
def test_a_result_comes_back_as_it_was(result: dict[str, Any]) -> None:
    """Through memory, and through the second level."""
    result.pop("_meta", None)
    body = pack(result)
    assert body is not None
    assert unpack(body) == result
    try:
        text = as_json(body)
    except ValueError:  # a lone surrogate is no text that could be sent
        return
    assert unpack(from_other(text)) == result


def test_what_is_handed_out_shares_nothing_with_what_is_kept() -> None:
    """A caller may do what it likes with a cached result: the next one gets it unchanged (K4)."""
    body = pack({"content": [{"type": "text", "text": "x"}], "_meta": {"a": {"b": 1}}})
    assert body is not None
    first = handed_out(body, 0, advertise=False)
    first["content"][0]["text"] = "changed"
    first["_meta"]["a"].clear()
    assert handed_out(body, 0, advertise=False) == {
        "content": [{"type": "text", "text": "x"}],
        "_meta": {"a": {"b": 1}},
    }


def test_ttl_is_what_is_left() -> None:
    """`ttlMs` decreases with age, and never below 0; the age is told if wanted."""
    body = pack({"contents": [], "ttlMs": 5000})
    assert body is not None
    assert handed_out(body, 1.5, advertise=False) == {"contents": [], "ttlMs": 3500}
    assert handed_out(body, 9, advertise=True) == {"contents": [], "ttlMs": 0, "_meta": {HINT: {"ageMs": 9000}}}


def test_what_belongs_to_one_request_is_not_kept() -> None:
    """Trace context and progress token in a result's `_meta` are left out; what else is there stays."""
    body = pack({"_meta": {"traceparent": "00-1", "progressToken": 1, "vendor/x": 2}})
    assert body is not None
    assert unpack(body) == {"_meta": {"vendor/x": 2}}


def test_subclasses_of_json_types_are_kept_as_json() -> None:
    """An enum, as a careless server returns it, becomes its text; what is no JSON at all is not kept."""

    class Level(StrEnum):
        HIGH = "high"

    body = pack({"level": Level.HIGH})
    assert body is not None
    assert unpack(body) == {"level": "high"}
    assert pack({"what": object()}) is None


@pytest.mark.parametrize("box", [None, Box()], ids=["plain", "sealed"])
@pytest.mark.parametrize("compress_above", [1, 10**6])
def test_a_record_comes_back_as_it_was(box: Box | None, compress_above: int) -> None:
    """Compressed or not, sealed or not."""
    data = encode(RECORD, compress_above=compress_above, box=box, context=b"key")
    assert decode(data, box=box, context=b"key") == RECORD
    assert (len(data) < 500) == (compress_above == 1)


def test_with_a_box_only_what_was_sealed_for_the_key_is_believed() -> None:
    """Neither plain records nor those moved from another key pass; without the box nothing sealed does."""
    plain = encode(RECORD, compress_above=10**6, box=None, context=b"key")
    sealed = encode(RECORD, compress_above=10**6, box=Box(), context=b"key")
    for data, box, context in ((plain, Box(), b"key"), (sealed, Box(), b"other"), (sealed, None, b"key")):
        with pytest.raises(ValueError, match=r"seal|forged"):
            decode(data, box=box, context=context)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_no_bytes_do_more_than_be_refused(noise: bytes, position: int, value: int) -> None:
    """Whatever stands in the second level, reading it gives a record or `ValueError`."""
    data = bytearray(encode(copy.copy(RECORD), compress_above=1, box=None, context=b"key"))
    data[position % len(data)] = value
    for attempt in (noise, bytes(data), b"\x00" + noise):
        try:
            decode(attempt, box=None, context=b"key")
        except ValueError:
            continue


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"\xff"])
def test_only_objects_come_from_other_processes(text: bytes) -> None:
    """A record whose text is no JSON object is no answer."""
    with pytest.raises(ValueError, match=r"."):
        from_other(text)
