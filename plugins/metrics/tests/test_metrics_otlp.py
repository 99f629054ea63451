"""The push, received and decoded by a collector of the test."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from plughost_metrics import MetricsConfig, MetricsPlugin
from plughost_testing import HostFactory, ScriptedProvider, VirtualClock, make_call

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> Any:
    return virtual_clock.backend


class Collector:
    """Takes pushes, or answers them with another status."""

    def __init__(self) -> None:
        self.status = 200
        self.pushes: list[ExportMetricsServiceRequest] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                push = ExportMetricsServiceRequest()
                push.ParseFromString(body)
                collector.pushes.append(push)
                collector.headers.append(self.headers)
                collector.paths.append(self.path)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def values(self) -> dict[str, Any]:
        """Metric → its data, of the newest push."""
        return {item.name: item for item in self.pushes[-1].resource_metrics[0].scope_metrics[0].metrics}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = Thread(target=collector.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def collector(running: Collector) -> Collector:
    running.status = 200
    running.pushes, running.headers, running.paths = [], [], []
    return running


def plugin(url: str, **otlp: Any) -> MetricsPlugin:
    return MetricsPlugin(MetricsConfig.model_validate({"otlp": {"endpoint": url, **otlp}}), name="metrics")


def attributes(items: Any) -> dict[str, str]:
    return {item.key: item.value.string_value for item in items}


async def test_collector_gets_the_same_numbers(host: HostFactory, collector: Collector) -> None:
    """Every interval a collector gets all metrics, of other plugins too, cumulative, with the host as resource."""
    running = await host(
        plugin(collector.url, interval="10s", headers={"x-key": "let-me-in"}),
        providers=[ScriptedProvider("notes", tools=["add"])],
    )
    metrics.get_meter("plughost.quota").create_counter("plughost.quota.used", unit="{call}").add(3, {"who": "me"})
    await running.dispatch(make_call("tools/call", {"name": "add"}))
    await running.clock.sleep(11)
    assert collector.paths == ["/v1/metrics"]
    assert collector.headers[0]["x-key"] == "let-me-in"
    resource = attributes(collector.pushes[0].resource_metrics[0].resource.attributes)
    assert (resource["service.name"], resource["service.version"]) == ("plughost", running.version)
    assert resource["service.instance.id"]
    found = collector.values()
    used = found["plughost.quota.used"]
    assert (used.sum.is_monotonic, used.sum.aggregation_temporality, used.unit) == (True, 2, "{call}")
    assert (used.sum.data_points[0].as_int, attributes(used.sum.data_points[0].attributes)) == (3, {"who": "me"})
    (point,) = found["mcp.server.operation.duration"].histogram.data_points
    assert (point.count, sum(point.bucket_counts), len(point.bucket_counts)) == (1, 1, len(point.explicit_bounds) + 1)
    assert (point.HasField("min"), point.start_time_unix_nano < point.time_unix_nano) == (False, True)
    assert found["plughost.provider.up"].gauge.data_points[0].as_int == 1
    assert found["plughost.host.calls.in_flight"].sum.is_monotonic is False
    assert "target_info" not in found
    await running.clock.sleep(10)
    assert len(collector.pushes) == 2


async def test_last_numbers_leave_with_the_plugin(host: HostFactory, collector: Collector) -> None:
    """What was counted since the last push is pushed when the plugin leaves."""
    running = await host(plugin(collector.url, interval="1h"), providers=[ScriptedProvider("notes", tools=["add"])])
    await running.dispatch(make_call("tools/call", {"name": "add"}))
    assert collector.pushes == []
    await running.unregister("metrics")
    assert "mcp.server.operation.duration" in collector.values()


async def test_collector_that_refuses(host: HostFactory, collector: Collector) -> None:
    """A push that is refused degrades health, is counted, and the next one is tried all the same."""
    collector.status = 400
    running = await host(plugin(collector.url, interval="10s"))
    (check,) = (check for name, check in running.health_checks if name == "metrics")
    await check.check()
    await running.clock.sleep(11)
    with pytest.raises(RuntimeError, match="did not take the last push"):
        await check.check()
    collector.status = 200
    await running.clock.sleep(10)
    await check.check()
    (point,) = collector.values()["plughost.metrics.pushes"].sum.data_points
    assert attributes(point.attributes) == {"plughost.outcome": "failure"}
    assert check.critical is False


async def test_collector_that_is_away_holds_nobody_up(host: HostFactory) -> None:
    """Nobody listens: the host starts, and the plugin leaves when the push has had its time."""
    with collecting() as collector:
        url = collector.url
    running = await host(plugin(url, interval="1h", timeout="300ms"))
    begin = time.monotonic()
    await running.unregister("metrics")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://collector:4318", "http://collector:4318/v1/metrics"),
        ("https://collector/", "https://collector/v1/metrics"),
        ("http://collector/api/v1/otlp/v1/metrics", "http://collector/api/v1/otlp/v1/metrics"),
    ],
)
def test_endpoint(given: str, expected: str) -> None:
    """A collector's address without a path means its OTLP receiver."""
    config = MetricsConfig.model_validate({"otlp": {"endpoint": given}})
    assert config.otlp is not None
    assert config.otlp.endpoint == expected
