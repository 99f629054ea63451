"""What a reader of the OpenTelemetry SDK collects from instruments that are made in a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, Sum
from plughost import InstanceMeter


class Collector:
    """Collects whenever it is asked."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[Metric]:
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                yield from scope.metrics

    def points(self) -> dict[str, dict[str, float]]:
        """Metric → attributes as text (`plugin=cache cache.level=l1`) → value."""
        return {metric.name: dict(map(_point, metric.data.data_points)) for metric in self}

    def kinds(self) -> dict[str, tuple[str, str | None, str | None]]:
        """Metric → kind, unit and description."""
        return {metric.name: (_kind(metric.data), metric.unit, metric.description) for metric in self}


def _point(point: Any) -> tuple[str, float]:
    return " ".join(
        f"{name.removeprefix('plughost.')}={value}" for name, value in point.attributes.items()
    ), point.value


def _kind(data: object) -> str:
    return ("counter" if data.is_monotonic else "up_down_counter") if isinstance(data, Sum) else "gauge"


@contextmanager
def collecting(*meters: InstanceMeter[Any]) -> Iterator[Collector]:
    """Collect from what is made through the API within the block, and from these meters, as if none had been used."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "get_meter", provider.get_meter)
        for meter in meters:
            patch.setattr(meter, "_instruments", [])
            patch.setattr(meter, "_live", type(meter._live)())
        yield Collector(reader)
    provider.shutdown()
