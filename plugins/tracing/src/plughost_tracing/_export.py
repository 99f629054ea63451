"""The way to the collector, and how it goes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from opentelemetry import metrics
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult

from plughost_tracing._config import TracingConfig

_spans = metrics.get_meter("plughost.tracing").create_counter(
    "plughost.tracing.spans", unit="{span}", description="Spans that were exported, or lost because it failed."
)


class Watched(SpanExporter):
    """An exporter that counts, and says how the last export went."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.exported = 0
        self.lost = 0
        self.failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
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


def make_exporter(config: TracingConfig) -> SpanExporter:
    """What `protocol` names.

    Raises:
        ModuleNotFoundError: It is gRPC, whose extra is not installed.
    """
    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    if config.protocol == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    if config.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter as OverGRPC,
        )

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
