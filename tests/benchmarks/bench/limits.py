"""The rate limiter: the bytes that it keeps of each caller, and what replicas on one server let through together."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import blake2b

import psutil
from plughost_rate_limit._algorithms import algorithm
from plughost_rate_limit._memory import MemoryStore
from plughost_rate_limit._rate import Rate
from plughost_testing import VirtualClock
from plughost_testing.services import HostProcess, Redis, Stack

from bench import wire
from bench.process import in_fresh_process, resident_kib
from bench.rows import Goal, Measurement, measured, row
from bench.timing import Effort, ratios

IDENTITIES_PER_CYCLE = 1000
ALGORITHM = "sliding-window"
"""The default, and the one that keeps most."""
BYTES = 1024
REPLICAS = (1, 2, 4)
CONNECTIONS = 4
FACTOR = 4
TICK = 0.01
"""Seconds: the smallest CPU time that Linux tells of a process."""
TO_SPARE = 100
"""Calls that are left of the limit for the last turn, in which all replicas together want four times as many."""
SERVER = """
from mcp.server.mcpserver import MCPServer

server = MCPServer("echo")

@server.tool()
async def echo(text: str) -> str:
    return text
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Resident bytes for each identity."""

    once: float
    """When each has called once."""
    often: float
    """After all called on and on."""
    idle: float
    """When all but one are gone."""


@row("B11", "rate limiter, memory for each identity")
def memory(effort: Effort) -> Iterable[Measurement]:
    count = effort.cycles * IDENTITIES_PER_CYCLE
    held = in_fresh_process(run_memory, count)
    yield Measurement(f"{count:,} identities", held.once, "bytes each", goal=Goal(200))
    yield Measurement("after many more calls", held.often, "bytes each", goal=Goal(200))
    yield Measurement("when all but one are gone", held.idle, "bytes each")


def run_memory(count: int) -> Held:
    return asyncio.run(_memory(count))


async def _memory(count: int) -> Held:
    clock = VirtualClock()
    store = MemoryStore([algorithm(ALGORITHM, Rate.parse("100/minute"), None)], clock)
    gc.collect()
    before = resident_kib()

    async def held(rounds: int, pause: float, callers: int = count) -> float:
        for _ in range(rounds):
            clock.advance(pause)
            for number in range(callers):
                await store.take(_identity(number), 1)
        gc.collect()
        return (resident_kib() - before) * BYTES / count

    return Held(await held(1, 0), await held(6, 15), await held(3000, 120, 1))


def _identity(number: int) -> int:
    return int.from_bytes(blake2b(number.to_bytes(8, "big"), digest_size=15).digest(), "big")


@row("B13", "rate limiter, replicas on one Redis")
def replicas(effort: Effort) -> Iterable[Measurement]:
    calls = FACTOR * effort.socket_calls  # or the clock of processes is too coarse
    turns = 1 + effort.socket_rounds
    limit = turns * sum(REPLICAS) * calls + REPLICAS[-1] * CONNECTIONS + TO_SPARE
    with Stack() as stack:
        redis = stack.start(Redis())
        config = {
            "providers": {"echo": {"python": "echo_server:server"}},
            "plugins": {"rate-limit": {"limit": f"{limit}/day", "url": f"{redis.url}?timeout=5"}},
        }
        hosts = [stack.start(HostProcess(config, files={"echo_server.py": SERVER})) for _ in range(REPLICAS[-1])]
        passed, rates = asyncio.run(_replicas(hosts, turns, calls))
    yield Measurement(f"let through beyond the limit of {limit:,}", passed - limit, "calls", goal=Goal(0))
    for count in REPLICAS[1:]:
        per_replica = ratios(rates[count][1:], rates[REPLICAS[0]][1:])
        yield measured(f"calls per CPU second of a replica, {count} / 1", per_replica, goal=Goal(0.9, least=True))


async def _replicas(hosts: Sequence[HostProcess], turns: int, calls: int) -> tuple[int, dict[int, list[float]]]:
    """How many calls passed in all, and for each number of replicas the calls per CPU second of one, by turn."""
    rates: dict[int, list[float]] = {count: [] for count in REPLICAS}
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire.connected(host.port, CONNECTIONS)) for host in hosts]
        passed = len(hosts) * CONNECTIONS  # each connection has made a call
        for _ in range(turns):
            for count in REPLICAS:
                before = sum(map(_cpu_seconds, hosts[:count]))
                passed += sum(await asyncio.gather(*(_passing(line, calls) for line in lines[:count])))
                spent = sum(map(_cpu_seconds, hosts[:count])) - before
                rates[count].append(count * calls / max(spent, TICK))
        passed += sum(await asyncio.gather(*(_passing(line, TO_SPARE) for line in lines)))
    return passed, rates


async def _passing(connections: Sequence[wire.Connection], calls: int) -> int:
    """How many of so many calls the limiter lets pass."""

    async def work(connection: wire.Connection, calls: int) -> int:
        return sum([b"-32010" not in await connection.exchange() for _ in range(calls)])

    share, more = divmod(calls, len(connections))
    shares = [share + (number < more) for number in range(len(connections))]
    return sum(await asyncio.gather(*map(work, connections, shares)))


def _cpu_seconds(host: HostProcess) -> float:
    assert host.process is not None
    times = psutil.Process(host.process.pid).cpu_times()
    seconds: float = times.user + times.system
    return seconds
