"""The Grafana dashboard, built from a list of panels. Its copy in `dashboard.json` is what ships; a test compares them.

Schema 39 of the classic dashboard model, which Grafana 11 and newer take (and migrate). Only what differs from
Grafana's defaults is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = 39
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHERE = 'job=~"$job",instance=~"$instance"'
"""In every selector; the variables of the dashboard."""
WINDOW = "[$__rate_interval]"
SERVER = "mcp_server_operation_duration_seconds"
CLIENT = "mcp_client_operation_duration_seconds"
LAYER = "plughost_layer_duration_seconds"
HEIGHT = 8
WIDTH = 24
Queries = Sequence[tuple[str, str]]
"""Pairs of expression and legend."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart: its queries, and the unit in Grafana's words."""

    title: str
    queries: Queries
    unit: str = "short"
    text: str = ""
    kind: str = "timeseries"
    width: int = 8
    states: Sequence[tuple[int, str, str]] = ()
    """Value, text and colour, where numbers stand for states."""
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Panel]


def rate(metric: str, by: str = "", only: str = "") -> str:
    """Per second; `only` narrows the selector, `by` names the labels that stay."""
    where = f"{WHERE},{only}" if only else WHERE
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}{WINDOW}))"


def quantile(q: float, metric: str, by: str = "", only: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, only)})"


def gauge(metric: str, by: str, how: str = "sum") -> str:
    return f"{how} by ({by}) ({metric}{{{WHERE}}})" if by else f"{how} ({metric}{{{WHERE}}})"


def rates(metric: str, by: str, only: str = "") -> Queries:
    """A line for each combination of labels, which is its legend."""
    return [(rate(metric, by, only), legend(by))]


def gauges(metric: str, by: str, how: str = "sum") -> Queries:
    return [(gauge(metric, by, how), legend(by))]


def events(kinds: str) -> Queries:
    only = f'plughost_event_type=~"{kinds}"'
    return rates("plughost_events_total", "plughost_event_type, plughost_event_subject", only)


def legend(by: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in by.split(", "))


CALLS = f"{SERVER}_count"
ATTEMPTS = f"{CLIENT}_count"
HITS = rate("plughost_cache_hits_total")
UP = ((0, "down", "red"), (1, "up", "green"))
TOOLS = 'mcp_method_name="tools/call"'
FAILED = 'plughost_outcome="failure"'
BULKHEAD = "plughost_plugin, plughost_provider, plughost_bulkhead_per"
"""A call is in each limit of a bulkhead once: no sum over them."""
REFUSALS = "-3201[0134578]"
"""Codes of what the host refuses: limit, breaker, bulkhead, drain, authorization, quarantine, tenant."""

ROWS = (
    Row(
        "Overview",
        (
            Panel("Calls per second", [(rate(CALLS), "")], "reqps", kind="stat", width=4),
            Panel(
                "Failures",
                [(f"({rate(CALLS, only=FAILED)} or vector(0)) / {rate(CALLS)}", "")],
                "percentunit",
                "Calls that the provider, or the way to it, failed; refusals and mistakes of clients are none.",
                "stat",
                4,
            ),
            Panel("95 % of calls take less than", [(quantile(0.95, SERVER), "")], "s", kind="stat", width=4),
            Panel("Calls in flight", [(gauge("plughost_host_calls_in_flight", ""), "")], kind="stat", width=4),
            Panel("Providers", gauges("plughost_provider_up", "plughost_provider", "min"), kind="stat", states=UP),
        ),
    ),
    Row(
        "Traffic and errors",
        (
            Panel("Calls by method", rates(CALLS, "mcp_method_name"), "reqps", stacked=True),
            Panel("Calls by tool", rates(CALLS, "gen_ai_tool_name", TOOLS), "reqps", stacked=True),
            Panel("Calls by outcome", rates(CALLS, "plughost_outcome"), "reqps", stacked=True),
            Panel(
                "Errors by code",
                rates(CALLS, "error_type", 'error_type!=""'),
                "reqps",
                "JSON-RPC codes; tool_error is a result with isError.",
            ),
            Panel(
                "Tools that answer with an error",
                rates(CALLS, "gen_ai_tool_name", 'error_type="tool_error"'),
                "reqps",
            ),
            Panel("Failures by provider", rates(ATTEMPTS, "plughost_provider", FAILED), "reqps"),
        ),
    ),
    Row(
        "Latency",
        (
            Panel("All calls", [(quantile(q, SERVER), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)], "s"),
            Panel("p95 by tool", [(quantile(0.95, SERVER, "gen_ai_tool_name", TOOLS), "{{gen_ai_tool_name}}")], "s"),
            Panel("p95 by provider", [(quantile(0.95, CLIENT, "plughost_provider"), "{{plughost_provider}}")], "s"),
        ),
    ),
    Row(
        "Resilience",
        (
            Panel(
                "Circuit breakers",
                gauges("plughost_circuit_breaker_state", "plughost_provider, gen_ai_tool_name", "max"),
                kind="state-timeline",
                states=(
                    (0, "closed", "green"),
                    (1, "recovering", "blue"),
                    (2, "half-open", "yellow"),
                    (3, "open", "red"),
                ),
            ),
            Panel("Refusals by code", rates(CALLS, "error_type", f'error_type=~"{REFUSALS}"'), "reqps"),
            Panel(
                "Timeouts",
                rates("plughost_timeout_count_total", "plughost_timeout_limit, plughost_provider"),
                "reqps",
            ),
            Panel("Rate limits", rates("plughost_rate_limit_refused_total", "plughost_rate_limit_limit"), "reqps"),
            Panel("Retries", rates("plughost_retry_retries_total", "plughost_provider"), "reqps"),
            Panel(
                "Bulkheads: calls in flight",
                [(gauge("plughost_bulkhead_in_flight", BULKHEAD), "{{plughost_plugin}} {{plughost_provider}}")],
            ),
            Panel(
                "Bulkheads: calls waiting",
                [(gauge("plughost_bulkhead_queued", BULKHEAD), "{{plughost_plugin}} {{plughost_provider}}")],
            ),
            Panel("Pools: who waits", gauges("plughost_pool_waiting", "plughost_pool_name")),
            Panel("Guards that let pass", events("guard[.].+"), "reqps"),
            Panel(
                "Shared stores",
                gauges("plughost_redis_up", "plughost_plugin", "min"),
                kind="state-timeline",
                states=UP,
            ),
        ),
    ),
    Row(
        "Reuse",
        (
            Panel(
                "Cache hit ratio",
                [(f"{HITS} / ({HITS} + {rate('plughost_cache_misses_total')})", "hits")],
                "percentunit",
            ),
            Panel("Cache in memory", gauges("plughost_cache_size_bytes", "plughost_plugin"), "bytes"),
            Panel("Shared calls", rates("plughost_dedup_count_total", "plughost_dedup_how"), "reqps"),
        ),
    ),
    Row(
        "Events",
        (
            Panel("Stored", [(rate("plughost_events_stored_total"), "stored")], "eps"),
            Panel(
                "Store lag: age of the oldest that waits",
                gauges("plughost_events_lag_seconds", "plughost_plugin", "max"),
                "s",
            ),
            Panel("Waiting", gauges("plughost_events_queued", "plughost_plugin")),
            Panel(
                "Event store",
                gauges("plughost_events_up", "plughost_plugin", "min"),
                kind="state-timeline",
                states=UP,
            ),
        ),
    ),
    Row(
        "Host",
        (
            Panel(
                "Health",
                gauges("plughost_health_state", "instance", "max"),
                kind="state-timeline",
                states=((0, "healthy", "green"), (1, "degraded", "yellow"), (2, "unhealthy", "red")),
            ),
            Panel(
                "Overhead by plugin",
                [
                    (
                        f"{rate(f'{LAYER}_sum', 'plughost_plugin')} / {rate(f'{LAYER}_count', 'plughost_plugin')}",
                        "{{plughost_plugin}}",
                    )
                ],
                "s",
                "Mean time that a layer takes by itself, what it waits for included; from a sample of the calls.",
            ),
            Panel("Events", events(".+"), "reqps"),
        ),
    ),
)


def dashboard(rows: Iterable[Row] = ROWS) -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        panels.append(_placed({"type": "row", "title": row.title, "collapsed": False, "panels": []}, 0, y, WIDTH, 1))
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            panels.append(_placed(_chart(panel), x, y, panel.width, HEIGHT))
            x += panel.width
        y += HEIGHT
    numbered = [{"id": number, **panel} for number, panel in enumerate(panels, 1)]
    return {
        "title": "Plughost",
        "uid": "plughost",
        "tags": ["mcp", "plughost"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {
            "list": [_source_variable(), _label_variable("job"), _label_variable("instance", 'job=~"$job"')]
        },
        "panels": numbered,
    }


def expressions() -> list[str]:
    """Every query of the dashboard."""
    return [expression for row in ROWS for panel in row.panels for expression, _ in panel.queries]


def _placed(panel: dict[str, Any], x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {**panel, "gridPos": {"h": height, "w": width, "x": x, "y": y}}


def _chart(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.states:
        options = {str(value): {"text": text, "color": color} for value, text, color in panel.states}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.stacked:
        defaults["custom"] = {"fillOpacity": 20, "stacking": {"mode": "normal", "group": "A"}}
    targets = [
        {"refId": chr(65 + index), "expr": expression, "legendFormat": legend, "datasource": SOURCE, "range": True}
        for index, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
        "targets": targets,
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _label_variable(name: str, where: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values({SERVER}_count{f'{{{where}}}' if where else ''}, {name})", "refId": name},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }
