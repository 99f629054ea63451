"""The way to the collector, and how it goes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from opentelemetry import metrics
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from plughost_tracing._config import TracingConfig

_spans = metrics.get_meter("plughost.tracing").create_counter(
    "plughost.tracing.spans", unit="{span}", description="Spans that were exported, or lost because it failed."
)

_SAID = frozenset({"exception.message", "exception.stacktrace"})


class Watched(SpanExporter):
    """An exporter that counts, and says how the last export went. What errors say stays here, unless `messages`."""

    def __init__(self, exporter: SpanExporter, *, messages: bool = False) -> None:
        self._exporter = exporter
        self._messages = messages
        self.exported = 0
        self.lost = 0
        self.failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans if self._messages else [without_messages(span) for span in spans])
        self.failing = result is not SpanExportResult.SUCCESS
        if self.failing:
            self.lost += len(spans)
        else:
            self.exported += len(spans)
        _spans.add(len(spans), {"plughost.tracing.result": "lost" if self.failing else "exported"})
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def without_messages(span: ReadableSpan) -> ReadableSpan:
    """The span without what errors say: libraries record exceptions, whose messages hold arguments (G6)."""
    if not span.events and span.status.description is None:
        return span
    events = [
        Event(
            event.name,
            {key: value for key, value in (event.attributes or {}).items() if key not in _SAID},
            event.timestamp,
        )
        for event in span.events
    ]
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def make_exporter(config: TracingConfig) -> SpanExporter:
    """What `protocol` names.

    Raises:
        ModuleNotFoundError: It is gRPC, whose extra is not installed.
    """
    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    if config.protocol == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    if config.protocol == "grpc":
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - an extra
                OTLPSpanExporter as OverGRPC,
            )
        except ModuleNotFoundError as error:
            problem = "protocol = \"grpc\" needs an extra: pip install 'plughost-tracing[grpc]'"
            raise ModuleNotFoundError(problem, name=error.name) from error
        lower = {name.lower(): value for name, value in headers.items()}
        return OverGRPC(endpoint=config.url, headers=lower, timeout=config.timeout)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - brings an HTTP client
        OTLPSpanExporter as OverHTTP,
    )

    return OverHTTP(endpoint=config.url, headers=headers, timeout=config.timeout)


def make_processor(config: TracingConfig, exporter: SpanExporter) -> BatchSpanProcessor:
    """Queues spans and exports them in a thread of its own: no call ever waits for it."""
    return BatchSpanProcessor(
        exporter,
        max_queue_size=config.queue,
        schedule_delay_millis=config.interval * 1e3,
        max_export_batch_size=config.batch,
        export_timeout_millis=config.timeout * 1e3,
    )
