"""The way to the collector, and how it goes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from threading import Lock

from opentelemetry import metrics
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from plughost_tracing._config import TracingConfig

logger = logging.getLogger("plughost.tracing")

_spans = metrics.get_meter("plughost.tracing").create_counter(
    "plughost.tracing.spans", unit="{span}", description="Spans exported, lost with an export that failed, or dropped."
)

_SAID = frozenset({"exception.message", "exception.stacktrace"})


class Watched(SpanExporter):
    """An exporter that counts, and says how the last export went. What errors say stays here, unless `messages`."""

    def __init__(self, exporter: SpanExporter, *, queue: int, messages: bool = False) -> None:
        self._exporter = exporter
        self._queue = queue
        self._messages = messages
        self._lock = Lock()
        self._told = False
        self.waiting = 0
        self.exported = 0
        self.lost = 0
        self.dropped = 0
        self.failing = False

    def expect(self) -> bool:
        """Whether a further span may wait for its export; it is counted as dropped if too many do."""
        with self._lock:
            if self.waiting < self._queue:
                self.waiting += 1
                return True
            self.dropped += 1
            told, self._told = self._told, True
        if not told:
            logger.warning("%d spans wait for export; more are dropped until some of them are gone", self._queue)
        _spans.add(1, {"plughost.tracing.result": "dropped"})
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            self.waiting -= len(spans)
            self._told = False
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


class Queue(BatchSpanProcessor):
    """Queues spans and exports them in a thread of its own: no call ever waits for it.

    What does not fit is dropped here, and counted. The SDK counts what it drops only where the environment asks for its
    internal metrics, and those keep a processor for ever that has been replaced.
    """

    def __init__(self, config: TracingConfig, exports: Watched) -> None:
        super().__init__(
            exports,
            max_queue_size=config.queue,
            schedule_delay_millis=config.interval * 1e3,
            max_export_batch_size=config.batch,
            export_timeout_millis=config.timeout * 1e3,
        )
        self._exports = exports

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled and self._exports.expect():
            super().on_end(span)
