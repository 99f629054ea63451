"""Rows measured over sockets and pipes, in wall time: the host in front of a server in another process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from bench import message, wire
from bench.process import listening, role
from bench.rows import Goal, Measurement, measured, row
from bench.timing import Effort, differences, median, ratios

CONCURRENCY = 8
MILLISECONDS = 1e3


@row("B6", "gateway to an HTTP upstream / the upstream direct")
def http(effort: Effort) -> Iterable[Measurement]:
    with listening("bare-http") as direct, listening("gateway-http", f"http://127.0.0.1:{direct}/mcp") as gateway:
        alone, together = asyncio.run(_http({"direct": direct, "gateway": gateway}, effort))
    yield measured("p50, 1 client", ratios(alone["gateway"], alone["direct"]), goal=Goal(1.8))
    loaded = ratios(together["gateway"], together["direct"])
    yield measured(f"throughput, {CONCURRENCY} clients", loaded, goal=Goal(0.5, least=True))
    yield measured("p50 direct", [seconds * MILLISECONDS for seconds in alone["direct"]], "ms")


async def _http(
    ports: Mapping[str, int], effort: Effort
) -> tuple[Mapping[str, list[float]], Mapping[str, list[float]]]:
    alone: dict[str, list[float]] = {name: [] for name in ports}
    together: dict[str, list[float]] = {name: [] for name in ports}
    async with AsyncExitStack() as stack:
        connections = {
            name: await stack.enter_async_context(wire.connected(port, CONCURRENCY)) for name, port in ports.items()
        }
        for _ in range(effort.socket_rounds):
            for name, some in connections.items():
                alone[name].append(median(await wire.latencies(some[0], effort.socket_calls)))
        for _ in range(effort.socket_rounds):
            for name, some in connections.items():
                together[name].append(await wire.throughput(some, effort.load_seconds))
    return alone, together


@row("B7", "gateway to a stdio upstream / the upstream direct")
def stdio(effort: Effort) -> Iterable[Measurement]:
    p50 = asyncio.run(_stdio({name: role(f"{name}-stdio") for name in ("bare", "gateway")}, effort))
    added = differences(p50["gateway"], p50["bare"])
    yield measured("added p50, 1 client", ratios(added, p50["bare"]), goal=Goal(1.5))
    yield measured("p50 direct", [seconds * MILLISECONDS for seconds in p50["bare"]], "ms")


async def _stdio(commands: Mapping[str, list[str]], effort: Effort) -> Mapping[str, list[float]]:
    p50: dict[str, list[float]] = {name: [] for name in commands}
    async with AsyncExitStack() as stack:
        clients = {}
        for name, command in commands.items():
            server = StdioServerParameters(command=command[0], args=command[1:])
            client = Client(server, mode=message.VERSION, cache=None, read_timeout_seconds=30)
            clients[name] = await stack.enter_async_context(client)
            await _echo(clients[name])
        for _ in range(effort.socket_rounds):
            for name, client in clients.items():
                p50[name].append(median([await _timed(client) for _ in range(effort.socket_calls)]))
    return p50


async def _timed(client: Client) -> float:
    before = time.perf_counter()
    await _echo(client)
    return time.perf_counter() - before


async def _echo(client: Client) -> None:
    result = await client.call_tool("echo", {"text": message.TEXT})
    if result.is_error:
        raise RuntimeError(f"the call failed: {result!r}")
