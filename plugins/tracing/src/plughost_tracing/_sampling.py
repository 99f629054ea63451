"""Where a trace comes from, and whether it is recorded: W3C Trace Context, level 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import getrandbits, random
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_HEADERS = frozenset({b"traceparent", b"tracestate"})
_W3C = TraceContextTextMapPropagator()
"""No baggage: what a client puts there is not for the upstreams."""


def parent_in(carrier: Mapping[str, Any]) -> SpanContext | None:
    """The caller's span, if `carrier` has a valid `traceparent`."""
    if not isinstance(carrier.get("traceparent"), str):
        return None
    given = {key: carrier[key] for key in ("traceparent", "tracestate") if isinstance(carrier.get(key), str)}
    found = get_current_span(_W3C.extract(given, Context())).get_span_context()
    return found if found.is_valid else None


def parent_in_headers(headers: Iterable[tuple[bytes, bytes]]) -> SpanContext | None:
    """The same from the raw headers of an ASGI request."""
    found = {key: value for key, value in headers if key in _HEADERS}
    return parent_in({key.decode(): value.decode("latin-1") for key, value in found.items()}) if found else None


def is_sampled(parent: SpanContext | None, rate: float, *, follow: bool) -> bool:
    """Whether a trace is recorded: as the caller decided for its own, or as the dice fall."""
    if parent is not None and follow:
        return parent.trace_flags.sampled
    return rate > 0 and random() < rate  # noqa: S311 - dice, not secrets


def child_of(parent: SpanContext | None, *, sampled: bool) -> SpanContext:
    """A new span in the caller's trace, or in a new one."""
    return SpanContext(
        parent.trace_id if parent is not None else getrandbits(128) or 1,
        getrandbits(64) or 1,
        is_remote=False,
        trace_flags=_SAMPLED if sampled else _NOT_SAMPLED,
        trace_state=parent.trace_state if parent is not None else None,
    )
