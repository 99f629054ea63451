"""An upstream that dies and comes back, as operators see it: in metric, alert, trace, log and health."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import anyio
import pytest
from anyio.to_thread import run_sync
from mcp import Client, MCPError
from otlp_receiver import Collector, http_collector
from plughost import ErrorCode
from plughost_testing.services import HostProcess, Program, Prometheus, Stack
from plughost_testing.services.service import wait_until

pytestmark = [pytest.mark.services, pytest.mark.anyio]

LIMIT = 20.0
NOTES = """
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")

@mcp.tool()
def add(text: str) -> str:
    return text
"""
SEARCH = """
import sys
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("search")

@mcp.tool()
def find(text: str) -> str:
    return text

mcp.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""
AWAY = ("PlughostBreakerOpen", "PlughostProviderDown", "PlughostProviderFailing")
"""What has to fire while the upstream is away, and may not when it is back."""


class Host(HostProcess):
    """A host with a control socket in its own folder."""

    def environment(self) -> Mapping[str, str]:
        return {"XDG_RUNTIME_DIR": str(self.folder)}

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        try:
            with urlopen(self.url.replace("/mcp", path), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def health(self) -> tuple[int, str]:
        """Exit code and output of `plughost health --strict`."""
        command = [sys.executable, "-m", "plughost", "health", "--strict", "--config", str(self.config)]
        environment = {"PATH": "/usr/bin:/bin", **self.environment()}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout + done.stderr

    def lines(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in (self.folder / "host.log").read_text("utf-8").splitlines()]


class Alerting(Prometheus):
    """Prometheus with the rules that ship, in a hurry: a second is to them what minutes are elsewhere."""

    def prepare(self) -> None:
        rules = (files("plughost_metrics") / "rules.yml").read_text("utf-8")
        hasty = re.sub(r"\[\d+m\]", "[5s]", re.sub(r"for: \w+", "for: 1s", rules))
        assert hasty != rules
        (self.folder / "rules.yml").write_text(hasty, "utf-8")
        config = {
            "global": {"evaluation_interval": "250ms"},
            "scrape_configs": [self._job],
            "rule_files": ["rules.yml"],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")

    def firing(self) -> set[str]:
        """The names of the alerts that fire for the upstream."""
        alerts = json.loads(self._get("/api/v1/alerts"))["data"]["alerts"]
        return {
            alert["labels"]["alertname"]
            for alert in alerts
            if alert["state"] == "firing" and alert["labels"].get("plughost_provider") == "search"
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    with http_collector() as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    assert await run_sync(wait_until, condition, LIMIT)


class Load:
    """A client that calls a tool of the upstream over and over, and what it was told."""

    def __init__(self) -> None:
        self.errors: list[MCPError] = []
        self.good = 0

    async def run(self, url: str) -> None:
        async with Client(url) as client:
            while True:
                try:
                    await client.call_tool("find", {"text": "secret-argument"})
                    self.good += 1
                except MCPError as error:
                    self.errors.append(error)
                await anyio.sleep(0.1)


async def test_a_failing_upstream_is_seen_everywhere(stack: Stack, collector: Collector) -> None:
    """The metric counts it, alerts fire, the trace of a failed call and its log line are one, health is degraded.

    And the host serves what does not need it; when the upstream is back, all of that ends by itself.
    """
    upstream = stack.start(Program(sys.executable, "-c", SEARCH, "{port}"))
    breaker = {"per": ["provider"], "minimum_calls": 3, "window": "5s", "open": "1s", "open_max": "1s"}
    config = {
        "host": {"control": True},
        "providers": {"notes": {"python": "notes_server:mcp"}, "search": {"url": upstream.url}},
        "plugins": {
            "upstream": {"retry_max": "500ms", "wait": "50ms"},
            "errors": {},
            "tracing": {"endpoint": collector.url, "sample": 0.0, "interval": "100ms"},
            "metrics": {},
            "logs": {"path": "host.log"},
            "health": {"cache": "100ms"},
            "circuit-breaker": breaker,
        },
    }
    host = stack.start(Host(config, files={"notes_server.py": NOTES}))
    prometheus = stack.start(Alerting([f"127.0.0.1:{host.port}"]))
    load = Load()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load.run, host.url)
        await until(lambda: load.good > 3)
        assert host.get("/readyz") == (200, '{"status":"healthy"}')
        assert prometheus.firing() == set()

        upstream.kill()
        await until(lambda: any(error.code == ErrorCode.CIRCUIT_OPEN for error in load.errors))
        assert await run_sync(host.get, "/readyz") == (200, '{"status":"degraded"}')  # the other provider serves
        await until(lambda: "provider/search: is down" in host.health()[1])
        code, output = await run_sync(host.health)
        assert (code, output.partition("\n")[0]) == (1, "degraded")
        async with Client(host.url) as client:
            assert not (await client.call_tool("add", {"text": "still here"})).is_error
        await until(lambda: prometheus.firing() >= set(AWAY))
        failures = 'mcp_client_operation_duration_seconds_count{plughost_provider="search",plughost_outcome="failure"}'
        assert float(prometheus.query(f"sum({failures})")[0]["value"][1]) > 0

        before = load.good
        upstream.start()
        await until(lambda: load.good > before + 3)
        await until(lambda: host.get("/readyz") == (200, '{"status":"healthy"}'))
        assert await run_sync(host.health) == (0, "healthy\n")
        await until(lambda: not prometheus.firing())
        tasks.cancel_scope.cancel()
    host.stop()  # it writes and exports what waits
    check_trail(load, host, collector)


def check_trail(load: Load, host: Host, collector: Collector) -> None:
    """From what the client was told, over the line of the log, to the trace; and no word of what it sent."""
    lines = {
        line["mcp"]["request"]["id"]: line
        for line in host.lines()
        if line["log"]["logger"] == "plughost.calls" and line["event"]["outcome"] == "failure"
    }
    spans = {span.trace_id: span for span in collector.spans if span.kind == 2}
    assert len(spans) == len(load.errors)
    for error in load.errors:
        line = lines[str(error.data["requestId"])]
        span = spans[line["trace"]["id"]]
        assert line["log"]["level"] == "warning" if error.code == ErrorCode.CIRCUIT_OPEN else "error"
        assert line["error"]["code"] == span.attributes["error.type"] == str(error.code)
        assert (span.name, span.failed, span.span_id) == ("tools/call find", True, line["span"]["id"])
        assert span.attributes["plughost.provider"] == line["plughost"]["provider"] == "search"
    assert "secret-argument" not in repr(collector.spans) + repr(host.lines())
