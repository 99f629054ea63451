"""Where a trace comes from, and whether it is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags
from plughost_tracing._sampling import child_of, is_sampled, parent_in, parent_in_headers

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = SAMPLED[:-2] + "00"


def parent(header: str) -> SpanContext:
    found = parent_in({"traceparent": header})
    assert found is not None
    return found


def test_the_callers_span_is_read_from_raw_headers() -> None:
    """As ASGI has them: lower case, bytes, in any order, most of them others'."""
    headers = [(b"accept", b"*/*"), (b"tracestate", b"vendor=1"), (b"traceparent", SAMPLED.encode())]
    found = parent_in_headers(headers)
    assert found is not None
    assert found.span_id == parent(SAMPLED).span_id
    assert found.trace_state.get("vendor") == "1"
    assert parent_in_headers([(b"tracestate", b"vendor=1")]) is None
    assert parent_in_headers([(b"traceparent", b"\xff")]) is None


def test_trace_state_comes_along() -> None:
    """What vendors have put there is kept for the next."""
    found = parent_in({"traceparent": SAMPLED, "tracestate": "vendor=1"})
    assert found is not None
    assert found.trace_state.get("vendor") == "1"
    assert child_of(found, sampled=True).trace_state.get("vendor") == "1"


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text())), st.one_of(st.text(), st.integers()))
def test_anything_else_is_no_context(traceparent: Any, tracestate: Any) -> None:
    """Whatever a client writes there, nothing is raised, and only what is valid is followed."""
    found = parent_in({"traceparent": traceparent, "tracestate": tracestate})
    assert found is None or found.is_valid


@pytest.mark.parametrize("header", [SAMPLED, NOT_SAMPLED])
def test_a_caller_decides_for_its_trace(header: str) -> None:
    """Whatever share of our own traces is recorded."""
    for rate in (0.0, 1.0):
        assert is_sampled(parent(header), rate, follow=True) == (header is SAMPLED)
        assert is_sampled(parent(header), rate, follow=False) == (rate == 1.0)


def test_the_share_is_kept() -> None:
    """Of 10,000 traces that begin here about a twentieth is recorded at 0.05; none at 0, all at 1."""
    assert 350 < sum(is_sampled(None, 0.05, follow=True) for _ in range(10_000)) < 650
    assert not any(is_sampled(None, 0.0, follow=True) for _ in range(100))
    assert all(is_sampled(None, 1.0, follow=True) for _ in range(100))


@pytest.mark.parametrize("sampled", [True, False])
def test_a_new_span_is_in_the_callers_trace(*, sampled: bool) -> None:
    """Its trace id is the caller's, its own id is new, and it says whether it is recorded."""
    made = child_of(parent(SAMPLED), sampled=sampled)
    assert made.is_valid
    assert made.trace_id == parent(SAMPLED).trace_id
    assert made.span_id != parent(SAMPLED).span_id
    assert made.trace_flags == (TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    assert child_of(None, sampled=sampled).is_valid
