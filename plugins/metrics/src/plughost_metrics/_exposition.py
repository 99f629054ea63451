"""Prometheus's text formats, and the names that OpenTelemetry metrics have there.

Own code, a page of it: `prometheus-client` would keep a second registry to be filled anew for each scrape, and the
exporter of the OpenTelemetry SDK needs the SDK's provider. Source of the names: "Prometheus and OpenMetrics
Compatibility" of the OpenTelemetry specification; of the formats: prometheus.io "Exposition formats", OpenMetrics 1.0.
Scope labels (`otel_scope_name`) are left out: the scope is in each name already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate

from plughost_metrics._ledger import Distribution, Exemplar, Kind, Label, Labels, Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The format that has exemplars."""

_UNITS: Mapping[str, str] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "%": "percent",
}
_TYPES: Mapping[Kind, str] = {
    Kind.COUNTER: "counter",
    Kind.UP_DOWN: "gauge",
    Kind.GAUGE: "gauge",
    Kind.HISTOGRAM: "histogram",
}
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@lru_cache(4096)
def metric_name(name: str, unit: str, kind: Kind) -> str:
    """`mcp.server.operation.duration` in `s` is `mcp_server_operation_duration_seconds`; `_total` comes later."""
    words = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_:]", "_", name)).strip("_")
    words = f"_{words}" if words[:1].isdigit() else words
    if kind is Kind.COUNTER:
        words = words.removesuffix("_total")
    suffix = unit_word(unit, kind)
    return words if not suffix or words.endswith(f"_{suffix}") else f"{words}_{suffix}"


def unit_word(unit: str, kind: Kind) -> str:
    """A UCUM unit in Prometheus's words; `{call}` is no unit, and `1` is one only for a gauge."""
    unit = re.sub(r"\{.*?\}", "", unit)
    if unit == "1":
        return "ratio" if kind is Kind.GAUGE else ""
    what, _, per = unit.partition("/")
    words = [_UNITS.get(what, what), *(["per", _UNITS.get(per, per).removesuffix("s")] if per else [])]
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(filter(None, words))).strip("_")


@lru_cache(4096)
def label_name(name: str) -> str:
    words = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"key_{words}" if words[:1].isdigit() else words


def label_value(value: Label) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).translate(_ESCAPES)


def render(metrics: Iterable[Metric], *, openmetrics: bool = False) -> bytes:
    """All metrics as text. Two that get the same name there cannot both be shown: the first is."""
    lines: list[str] = []
    seen: set[str] = set()
    for metric in metrics:
        name = metric_name(metric.name, metric.unit, metric.kind)
        if name in seen:
            continue
        seen.add(name)
        lines += _head(metric, name, openmetrics=openmetrics)
        for labels, value in sorted(metric.series.items(), key=lambda item: str(item[0])):
            pairs = _pairs(labels)
            if isinstance(value, Distribution):
                lines += _buckets(name, pairs, value, exemplars=openmetrics)
            else:
                sample = f"{name}_total" if metric.kind is Kind.COUNTER else name
                lines.append(f"{sample}{{{pairs}}} {_number(value)}" if pairs else f"{sample} {_number(value)}")
    if openmetrics:
        lines.append("# EOF")
    return "\n".join([*lines, ""]).encode()


def _head(metric: Metric, name: str, *, openmetrics: bool) -> Iterator[str]:
    shown = f"{name}_total" if metric.kind is Kind.COUNTER and not openmetrics else name
    if metric.description:
        yield f"# HELP {shown} {metric.description.translate(_ESCAPES)}"
    yield f"# TYPE {shown} {_TYPES[metric.kind]}"
    unit = unit_word(metric.unit, metric.kind)
    if openmetrics and unit:
        yield f"# UNIT {shown} {unit}"


def _buckets(name: str, pairs: str, value: Distribution, *, exemplars: bool) -> Iterator[str]:
    start = f"{name}_bucket{{{pairs}{',' * bool(pairs)}le="
    counts = list(accumulate(value.counts))
    for bucket, (bound, count) in enumerate(zip([*map(_number, value.bounds), "+Inf"], counts, strict=True)):
        exemplar = value.exemplars.get(bucket) if exemplars else None
        yield f'{start}"{bound}"}} {count}{_exemplar(exemplar) if exemplar else ""}'
    pairs = f"{{{pairs}}}" if pairs else ""
    yield f"{name}_sum{pairs} {_number(value.total)}"
    yield f"{name}_count{pairs} {counts[-1]}"


def _exemplar(found: Exemplar) -> str:
    ids = f'trace_id="{found.trace_id}",span_id="{found.span_id}"'
    return f" # {{{ids}}} {_number(found.value)} {found.time:.3f}"


@lru_cache(16384)
def _pairs(labels: Labels) -> str:
    named: dict[str, str] = {}
    for name, value in labels:
        key = label_name(name)
        named[key] = f"{named[key]};{label_value(value)}" if key in named else label_value(value)
    return ",".join(f'{name}="{value}"' for name, value in named.items())


def _number(value: float) -> str:
    return repr(value + 0).replace("inf", "Inf").replace("nan", "NaN")  # + 0: a bool is a number to OpenTelemetry
