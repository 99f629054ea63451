"""The event store: how fast one process stores events, and how long a call is held up by its own."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from plughost import Call, Result
from plughost_events import EventsConfig, EventsPlugin, EventsURL, NewEvent
from plughost_testing import ScriptedProvider, make_call, make_host

from bench.process import in_fresh_process
from bench.rows import Goal, Measurement, measured, row
from bench.timing import Effort, collector_off

EVENTS_PER_CYCLE = 20
CALLS = 500
"""Fewer than the store takes into one batch: none is written while the calls are timed."""
MICROSECONDS = 1e6
DATA = {"method": "tools/call", "outcome": "success", "duration_us": 1200, "target": "echo", "provider": "echo"}


@row("B12", "event store, SQLite")
def events(effort: Effort) -> Iterable[Measurement]:
    count = effort.cycles * EVENTS_PER_CYCLE
    rounds = max(effort.starts, 1)
    found = in_fresh_process(run, count, rounds)
    yield measured(f"stored, {count:,} at a time", found.rates, "events/s of CPU", Goal(20_000, least=True))
    yield measured("the same by the clock, disk and neighbours included", found.by_clock, "events/s")
    yield measured("a call waits, async", found.waits, "µs", Goal(20))


@dataclass(frozen=True, slots=True)
class Found:
    """Events stored in a second, and microseconds that each call is held up, in each round."""

    rates: list[float]
    by_clock: list[float]
    waits: list[float]


def run(count: int, rounds: int) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(Path(folder) / "events.db", count, rounds))


async def _run(path: Path, count: int, rounds: int) -> Found:
    plugin = EventsPlugin(EventsConfig(url=EventsURL(f"sqlite:///{path}"), queue=10_000), name="events")
    async with make_host(plugin, providers=[ScriptedProvider("echo", tools=["echo"])]) as host:
        call = make_call("tools/call", {"name": "echo", "arguments": {"text": "hello"}})
        await host.dispatch(call)
        rates = [await _rate(plugin, count) for _ in range(rounds)]
        waits = [await _wait(plugin, call) for _ in range(rounds)]
        return Found([rate for rate, _ in rates], [rate for _, rate in rates], waits)


async def _rate(plugin: EventsPlugin, count: int) -> tuple[float, float]:
    store, writer = plugin.store, plugin.store.writer
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        if not writer.reserve():
            await writer.reserved(1)
        writer.post("principal:bench", store.prepared("principal:bench", NewEvent("call.completed", DATA)))
    await store.append("principal:bench", [NewEvent("last")])  # behind all of them
    return count / (time.process_time() - cpu), count / (time.perf_counter() - begin)


async def _wait(plugin: EventsPlugin, call: Call) -> float:
    result: Result = {"content": []}

    async def answer(_: Call) -> Result:
        return result

    with collector_off():
        begin = time.process_time()
        for _ in range(CALLS):
            await plugin.record(call, answer)
        waited = time.process_time() - begin
        begin = time.process_time()
        for _ in range(CALLS):
            await answer(call)
        waited -= time.process_time() - begin
    await plugin.store.append("principal:bench", [NewEvent("last")])
    return waited / CALLS * MICROSECONDS
