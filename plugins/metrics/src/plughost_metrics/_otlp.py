"""The ledger for an OpenTelemetry collector: its metrics as the SDK's types, which the official exporter sends."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from plughost_metrics._ledger import Distribution, Exemplar, Kind, Metric, Value

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricsData

logger = logging.getLogger("plughost.metrics")

INSTANCE_ID = str(uuid4())
"""Tells the processes of one service apart, workers too."""
NANO = 1_000_000_000


class Push:
    """One collector. `send` blocks, so it belongs in a thread; the SDK is imported when the first one is made."""

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], *, timeout: float, service: str, version: str, start: float
    ) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - only who pushes needs it
            OTLPMetricExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above

        self.endpoint = endpoint
        self._exporter: OTLPMetricExporter = OTLPMetricExporter(endpoint, headers=dict(headers), timeout=timeout)
        self.taken = True
        """Whether the collector took the last push."""
        self._timeout = timeout
        self._start = int(start * NANO)
        self._resource = Resource.create(
            {"service.name": service, "service.version": version, "service.instance.id": INSTANCE_ID}
        )

    def send(self, metrics: Iterable[Metric], now: float) -> None:
        """Send all numbers. Never raises."""
        from opentelemetry.sdk.metrics.export import MetricExportResult  # noqa: PLC0415 - as above

        try:
            data = metrics_data(metrics, self._resource, start=self._start, now=int(now * NANO))
            self.taken = self._exporter.export(data, self._timeout * 1e3) is MetricExportResult.SUCCESS
        except Exception:
            self.taken = False
            logger.exception("metrics could not be sent to %s", self.endpoint)

    def close(self) -> None:
        """Stop retrying, in whatever thread that happens, and release connections."""
        self._exporter.shutdown()


def metrics_data(metrics: Iterable[Metric], resource: Any, *, start: int, now: int) -> MetricsData:
    """The metrics as the SDK would hand them to an exporter: cumulative since `start`, in nanoseconds."""
    from opentelemetry.sdk.metrics import export as sdk  # noqa: PLC0415 - as above
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - as above

    cumulative = sdk.AggregationTemporality.CUMULATIVE

    def data(metric: Metric) -> Any:
        points = [_point(sdk, labels, value, start, now) for labels, value in metric.series.items()]
        match metric.kind:
            case Kind.HISTOGRAM:
                return sdk.Histogram(points, cumulative)
            case Kind.GAUGE:
                return sdk.Gauge(points)
            case _:
                return sdk.Sum(points, cumulative, is_monotonic=metric.kind is Kind.COUNTER)

    found = [sdk.Metric(item.name, item.description, item.unit, data(item)) for item in metrics]
    scope = sdk.ScopeMetrics(InstrumentationScope("plughost.metrics"), found, "")
    return sdk.MetricsData([sdk.ResourceMetrics(resource, [scope], "")])


def _point(sdk: Any, labels: Any, value: Value, start: int, now: int) -> Any:
    if not isinstance(value, Distribution):
        return sdk.NumberDataPoint(dict(labels), start, now, value)
    exemplars = [_exemplar(found) for found in value.exemplars.values()]
    count = sum(value.counts)
    numbers = (count, value.total, value.counts, value.bounds)
    return sdk.HistogramDataPoint(dict(labels), start, now, *numbers, min=None, max=None, exemplars=exemplars)


def _exemplar(found: Exemplar) -> Any:
    from opentelemetry.sdk.metrics import Exemplar as SDKExemplar  # noqa: PLC0415 - as above

    ids = int(found.span_id, 16), int(found.trace_id, 16)
    return SDKExemplar({}, found.value, int(found.time * NANO), *ids)
