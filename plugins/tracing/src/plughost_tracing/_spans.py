"""The spans of calls: one server span each, and what took its time inside.

A trace that is not sampled costs a span context and no more. Should its call fail, the server span is made up
afterwards, with the ids that were sent on to upstreams, and exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
)

from plughost_tracing._sampling import child_of, is_sampled

Attributes = Mapping[str, Any]

_IDS: ContextVar[SpanContext | None] = ContextVar("plughost_tracing_ids", default=None)


class _GivenIds(RandomIdGenerator):
    """Random ids, unless those of a span that is made up afterwards are given."""

    def generate_span_id(self) -> int:
        given = _IDS.get()
        return given.span_id if given is not None else super().generate_span_id()

    def generate_trace_id(self) -> int:
        given = _IDS.get()
        return given.trace_id if given is not None else super().generate_trace_id()


@dataclass(frozen=True, slots=True)
class Begun:
    """The server span of a call that runs: its parent in the client, if it has one, and when it began."""

    span: Span
    parent: SpanContext | None
    at: int


class Spans:
    """Makes the spans of calls. Times are in nanoseconds since the epoch."""

    def __init__(
        self, resource: Resource, processor: SpanProcessor, *, sample: float, follow: bool, errors: bool
    ) -> None:
        self.sample = sample
        self.follow = follow
        self.errors = errors
        self.libraries = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)), resource=resource, shutdown_on_exit=False
        )
        """What libraries in this process make their spans with: inside a call they follow its decision."""
        own = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            id_generator=_GivenIds(),
            shutdown_on_exit=False,
        )  # sampled or not is decided before
        for provider in (self.libraries, own):
            provider.add_span_processor(processor)
        self._tracer = own.get_tracer("plughost")

    def begin(self, name: str, parent: SpanContext | None, now: int) -> Span:
        """The server span of a call; one that records nothing if its trace is not sampled."""
        if is_sampled(parent, self.sample, follow=self.follow):
            return self._tracer.start_span(name, _under(parent), kind=SpanKind.SERVER, start_time=now)
        return NonRecordingSpan(child_of(parent, sampled=False))

    def end(self, span: Span, name: str, attributes: Attributes, *, failed: bool, now: int) -> None:
        """End a server span that records, with what is known now."""
        span.update_name(name)
        span.set_attributes(attributes)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(now)

    def make_up(self, begun: Begun, name: str, attributes: Attributes, *, now: int) -> None:
        """Export the server span of a failed call whose trace is not sampled."""
        token = _IDS.set(begun.span.get_span_context())
        try:
            late = self._tracer.start_span(
                name, _under(begun.parent), kind=SpanKind.SERVER, attributes=attributes, start_time=begun.at
            )
        finally:
            _IDS.reset(token)
        late.set_status(Status(StatusCode.ERROR))
        late.end(now)

    def inside(self, span: Span, name: str, attributes: Attributes, *, begin: int, now: int) -> None:
        """A span of something inside the call, now that it is known how long it took."""
        made = self._tracer.start_span(name, set_span_in_context(span), attributes=attributes, start_time=begin)
        made.end(now)


def _under(parent: SpanContext | None) -> Context:
    return set_span_in_context(NonRecordingSpan(parent), Context()) if parent is not None else Context()
