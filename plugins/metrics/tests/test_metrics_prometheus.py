"""A real Prometheus: it takes the rules, scrapes a host under load, and answers every query of the dashboard."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import anyio
import psutil
import pytest
from anyio.to_thread import run_sync
from mcp import Client, MCPError
from plughost_metrics._dashboard import expressions
from plughost_testing.services import HostProcess, Prometheus, Stack
from plughost_testing.services.service import wait_until

pytestmark = [pytest.mark.services, pytest.mark.anyio]

RULES = files("plughost_metrics") / "rules.yml"
LIMIT = 30.0
SERVER = """
import anyio
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

mcp = MCPServer("notes")

@mcp.tool()
def add(a: int, b: int) -> int:
    return a + b

@mcp.tool()
async def slow() -> None:
    await anyio.sleep(1)

@mcp.tool()
def wrong() -> int:
    raise ValueError("no such note")

@mcp.tool()
def broken() -> int:
    raise MCPError(-32603, "broken")
"""
EVERYTHING: Mapping[str, Any] = {
    "providers": {"notes": {"python": "notes_server:mcp"}},
    "plugins": {
        "metrics": {"sample_layers": 1},
        "errors": {},
        "bulkhead": {},
        "cache": {"tools": {"add": "1m"}},
        "circuit-breaker": {"minimum_calls": 5, "tool_errors": True},
        "dedup": {"tools": ["add"]},
        "events": {"url": "memory://"},
        "health": {},
        "rate-limit": {"limit": "30/minute"},
        "retry": {"tools": ["broken"]},
        "timeout": {"tools": {"slow": {"attempt": "50ms"}}},
    },
}
ABSENT = re.compile(r"plughost_pool_|plughost_redis_|guard\[\.\]")
"""What only a fault, a pool or a Redis makes."""
SOMETIMES = {"gen_ai_tool_name", "error_type"}
"""Labels that not every series has."""


def promtool(*arguments: str, cwd: Path | None = None, given: str = "") -> str:
    program = shutil.which("promtool")
    assert program is not None, "promtool is not installed; on Debian: apt-get install prometheus"
    done = subprocess.run([program, *arguments], input=given, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def scrape(host: HostProcess, **headers: str) -> str:
    with urlopen(Request(host.url.replace("/mcp", "/metrics"), headers=headers), timeout=5) as answer:
        text: str = answer.read().decode()
        return text


async def load(host: HostProcess, calls: int = 12) -> None:
    """Calls that succeed, fail, do not exist, and are too many."""
    async with Client(host.url) as client:
        await client.list_tools()
        for number in range(calls):
            for name, arguments in (
                ("add", {"a": number % 3, "b": 1}),
                ("wrong", {}),
                ("broken", {}),
                ("slow", {}),
                ("none", {}),
            ):
                with suppress(MCPError):
                    await client.call_tool(name, arguments)


def test_rules(tmp_path: Path) -> None:
    """promtool finds nothing to complain of in the rules, and each alert fires when it should, and only then."""
    shutil.copy(str(RULES), tmp_path)
    shutil.copy(Path(__file__).with_name("rules_test.yml"), tmp_path)
    assert "12 rules found" in promtool("check", "rules", "rules.yml", cwd=tmp_path)
    promtool("test", "rules", "rules_test.yml", cwd=tmp_path)


class Watching(Prometheus):
    """Prometheus with the rules of the package."""

    def prepare(self) -> None:
        shutil.copy(str(RULES), self.folder)
        config = {"scrape_configs": [self._job], "rule_files": ["rules.yml"], "global": {"evaluation_interval": "1s"}}
        (self.folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")

    def rules(self) -> list[dict[str, Any]]:
        """What it makes of the rules."""
        found: list[dict[str, Any]] = json.loads(self._get("/api/v1/rules"))["data"]["groups"][0]["rules"]
        return found


async def test_dashboard_and_rules_have_data(stack: Stack) -> None:
    """Prometheus scrapes a host under load; it answers every query of the dashboard, all but a few with data."""
    host = stack.start(HostProcess(EVERYTHING, files={"notes_server.py": SERVER}))
    prometheus = stack.start(Watching([f"127.0.0.1:{host.port}"], every="500ms"))
    await load(host)
    await anyio.sleep(1.5)
    await load(host)
    promtool("check", "metrics", given=scrape(host))
    variables = {"$job": "plughost", "$instance": ".*", "$__rate_interval": "1m"}
    queries = [re.sub(r"\$\w+", lambda found: variables[found[0]], expression) for expression in expressions()]

    def missing() -> list[str]:
        return [query for query in queries if not ABSENT.search(query) and not prometheus.query(query)]

    await run_sync(wait_until, lambda: not missing(), LIMIT)
    assert missing() == []
    for query in queries:
        found = prometheus.query(query)  # raises for what it cannot parse
        for label in re.findall(r"\w+", " ".join(re.findall(r" by \((.*?)\)", query))):
            assert ABSENT.search(query) or label in SOMETIMES | {"le"} or label in found[0]["metric"], query
    await run_sync(wait_until, lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"}, LIMIT)
    assert {rule["name"]: rule["health"] for rule in prometheus.rules() if rule["health"] != "ok"} == {}
    assert [sample["value"][1] for sample in prometheus.query('up{job="plughost"}')] == ["1"]


def total(text: str) -> float:
    """Calls of the tool, in a scrape."""
    name = 'mcp_server_operation_duration_seconds_count{gen_ai_tool_name="add"'
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


async def test_workers_are_one(stack: Stack) -> None:
    """Whichever of several workers is scraped shows the calls of all; one that is killed stays counted."""
    settings = {"stateless_legacy": True, "request_state_keys": ["k" * 32]}
    config = {"host": settings, "providers": EVERYTHING["providers"], "plugins": {"metrics": {}}}
    host = stack.start(HostProcess(config, "--workers", "2", files={"notes_server.py": SERVER}))
    process = host.process
    assert process is not None

    async def calls(count: int) -> None:
        for _ in range(count):
            async with Client(host.url) as client:
                await client.call_tool("add", {"a": 1, "b": 2})

    def workers() -> list[psutil.Process]:
        return psutil.Process(process.pid).children()

    def shows(number: float) -> bool:
        with suppress(OSError):
            return total(scrape(host)) == number
        return False

    await run_sync(wait_until, lambda: len(workers()) == 2, LIMIT)
    await calls(20)
    assert await run_sync(wait_until, lambda: all(shows(20) for _ in range(6)), LIMIT)
    await anyio.sleep(1.1)  # until no worker repeats an answer from before
    os.kill(workers()[0].pid, signal.SIGKILL)
    seen = [20.0]
    for _ in range(20):
        with suppress(OSError):
            seen.append(await run_sync(lambda: total(scrape(host))))
        await anyio.sleep(0.1)
    assert seen == sorted(seen)
    await run_sync(wait_until, lambda: len(workers()) == 2, LIMIT)
    await calls(5)
    assert await run_sync(wait_until, lambda: all(shows(25) for _ in range(6)), LIMIT)


def test_dashboard_is_what_grafana_knows() -> None:
    """The models that Grafana Labs publishes read the dashboard, and lose nothing of it."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    shipped = json.loads((files("plughost_metrics") / "dashboard.json").read_text("utf-8"))
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(shipped)))
    assert lost(shipped, known) == []


def lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where theirs lacks, or has otherwise, what is in ours."""
    if isinstance(ours, dict):
        return [
            place
            for key, value in ours.items()
            for place in (lost(value, theirs[key], f"{path}/{key}") if key in theirs else [f"{path}/{key}"])
        ]
    if isinstance(ours, list):
        return [place for index, item in enumerate(ours) for place in lost(item, theirs[index], f"{path}/{index}")]
    return [] if ours == theirs else [path]
