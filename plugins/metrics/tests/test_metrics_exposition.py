"""Names and text as Prometheus wants them."""

from __future__ import annotations

import pytest
from plughost_metrics._exposition import label_name, metric_name, render
from plughost_metrics._ledger import Distribution, Exemplar, Kind, Metric


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("mcp.server.operation.duration", "s", Kind.HISTOGRAM, "mcp_server_operation_duration_seconds"),
        ("plughost.cache.size", "By", Kind.UP_DOWN, "plughost_cache_size_bytes"),
        ("plughost.errors.count", "{error}", Kind.COUNTER, "plughost_errors_count"),
        ("requests_total", "", Kind.COUNTER, "requests"),
        ("hit.ratio", "1", Kind.GAUGE, "hit_ratio"),
        ("load", "1", Kind.GAUGE, "load_ratio"),
        ("items", "1", Kind.COUNTER, "items"),
        ("wait.milliseconds", "ms", Kind.GAUGE, "wait_milliseconds"),
        ("speed", "By/s", Kind.GAUGE, "speed_bytes_per_second"),
        ("rate", "{call}/s", Kind.GAUGE, "rate_per_second"),
        ("2nd--try", "", Kind.GAUGE, "_2nd_try"),
        ("fuel", "gal", Kind.GAUGE, "fuel_gal"),
    ],
)
def test_names(name: str, unit: str, kind: Kind, expected: str) -> None:
    """Dots become underscores, units words; `_total` of a counter is added where its samples stand."""
    assert metric_name(name, unit, kind) == expected


def test_label_names() -> None:
    """A label starts with a letter."""
    assert [label_name(name) for name in ("gen_ai.tool.name", "1st", "a-b")] == ["gen_ai_tool_name", "key_1st", "a_b"]


def histogram() -> Metric:
    distribution = Distribution((0.1, 1.0))
    for value in (0.1, 0.5, 0.5, 7.0):
        distribution.record(value)
    distribution.exemplars[1] = Exemplar(0.5, 1_767_225_600.25, "ab" * 16, "cd" * 8)
    return Metric("wait", Kind.HISTOGRAM, "s", "How long.\nReally \\", {(("who", 'a"b'),): distribution})


def test_text() -> None:
    """Prometheus's own format: buckets accumulate and end with +Inf, texts are escaped, there are no exemplars."""
    counter = Metric("calls", Kind.COUNTER, "{call}", "", {(): 3, (("ok", True),): 1.5})
    assert render([counter, histogram()]).decode().splitlines() == [
        "# TYPE calls_total counter",
        'calls_total{ok="true"} 1.5',
        "calls_total 3",
        r"# HELP wait_seconds How long.\nReally \\",
        "# TYPE wait_seconds histogram",
        r'wait_seconds_bucket{who="a\"b",le="0.1"} 1',
        r'wait_seconds_bucket{who="a\"b",le="1.0"} 3',
        r'wait_seconds_bucket{who="a\"b",le="+Inf"} 4',
        r'wait_seconds_sum{who="a\"b"} 8.1',
        r'wait_seconds_count{who="a\"b"} 4',
    ]


def test_openmetrics() -> None:
    """OpenMetrics names the counter without _total, states units, carries exemplars, and has an end."""
    lines = render([Metric("calls", Kind.COUNTER, series={(): 3}), histogram()], openmetrics=True).decode().splitlines()
    assert lines[:2] == ["# TYPE calls counter", "calls_total 3"]
    assert "# UNIT wait_seconds seconds" in lines
    ids = f'trace_id="{"ab" * 16}",span_id="{"cd" * 8}"'
    assert rf'wait_seconds_bucket{{who="a\"b",le="1.0"}} 3 # {{{ids}}} 0.5 1767225600.250' in lines
    assert lines[-1] == "# EOF"


def test_one_name_once() -> None:
    """Two metrics that become one name cannot both be shown; the first is, and the text stays valid."""
    found = render([Metric("a.b", Kind.GAUGE, series={(): 1}), Metric("a_b", Kind.COUNTER, series={(): 2})]).decode()
    assert found == "# TYPE a_b gauge\na_b 1\n"


def test_a_truth_is_a_number() -> None:
    """OpenTelemetry takes `True` for a value, and Prometheus does not."""
    assert render([Metric("up", Kind.GAUGE, "", "", {(): True})]).decode().splitlines()[-1] == "up 1"
