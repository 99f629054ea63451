"""Cold start and resident memory, each contestant a process of its own, answering over stdio."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from bench import message
from bench.process import SERVE, compiling, line, resident_kib, role, started
from bench.rows import Goal, Measurement, measured, row
from bench.timing import Effort, ratios

PLUGINS = {
    "errors": "",
    "rate-limit": 'limit = "1000000/second"',
    "circuit-breaker": "",
    "retry": "",
    "timeout": "",
    "bulkhead": "",
    "dedup": "",
    "cache": "",
    "validation": "",
    "metrics": "",
    "logs": 'path = "/dev/null"',
    "health": "",
}
"""The instances that the measured host has, with their keys."""
CALLS_BEFORE_WEIGHING = 100
HOST = f"host with {len(PLUGINS)} plugins"


@row("B9", "cold start to the first answered call / bare `MCPServer`")
def start(effort: Effort) -> Iterable[Measurement]:
    seconds, _ = _starts(effort)
    yield measured(HOST, ratios(seconds["host"], seconds["bare"]), goal=Goal(1.25))
    yield measured("bare `MCPServer`", seconds["bare"], "s")
    yield measured("`plughost --help`", [_help() for _ in range(effort.starts)], "s", Goal(0.3))


@row("B10", "resident memory / bare `MCPServer`")
def memory(effort: Effort) -> Iterable[Measurement]:
    _, mebibytes = _starts(effort)
    yield measured(HOST, ratios(mebibytes["host"], mebibytes["bare"]), goal=Goal(1.3))
    yield measured("bare `MCPServer`", mebibytes["bare"], "MiB")


@lru_cache
def _starts(effort: Effort) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds to the first answer, and MiB after some calls: both from the same processes, for B9 and B10."""
    seconds: dict[str, list[float]] = {"bare": [], "host": []}
    mebibytes: dict[str, list[float]] = {"bare": [], "host": []}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "plughost.toml")
        tables = "".join(f"[plugins.{name}]\n{keys}\n" for name, keys in PLUGINS.items())
        config.write_text(f'[host]\ncontrol = false\n[providers.echo]\npython = "served:server"\n{tables}', "utf-8")
        Path(folder, "served.py").write_text(PROVIDER.format(path=str(SERVE.parent)), "utf-8")
        command = [sys.executable, "-m", "plughost", "serve", "--stdio", "--config", str(config)]
        for turn in range(effort.starts + 1):
            for name, argv in {"bare": role("bare-stdio"), "host": command}.items():
                took, weighs = _first_answer(argv)
                if turn:  # the first turn compiles and fills the disk cache
                    seconds[name].append(took)
                    mebibytes[name].append(weighs)
    return seconds, mebibytes


PROVIDER = """import sys

sys.modules["rich"] = None  # as in serve.py
sys.path.insert(0, {path!r})

from bench.echo import echo_server

server = echo_server()
"""


def _first_answer(command: list[str]) -> tuple[float, float]:
    request = json.dumps(message.call()).encode() + b"\n"
    before = time.perf_counter()
    with started(command) as child:
        assert child.stdin
        for call in range(CALLS_BEFORE_WEIGHING):
            child.stdin.write(request)
            child.stdin.flush()
            message.check(line(child))
            if not call:
                took = time.perf_counter() - before
        return took, resident_kib(child.pid) / 1024


def _help() -> float:
    before = time.perf_counter()
    subprocess.run([sys.executable, "-m", "plughost", "--help"], check=True, capture_output=True, env=compiling())
    return time.perf_counter() - before
