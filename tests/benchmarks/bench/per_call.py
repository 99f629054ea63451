"""Rows measured in process, in CPU time per call: the host itself, its layers, its catalog, its plugins."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from bench import message
from bench.asgi import App, poster, running
from bench.contestants import BARE, CONTESTANTS, HOST, NoOp, host, lowlevel_server
from bench.echo import echo_server
from bench.rows import Goal, Measurement, measured, row
from bench.timing import Effort, differences, interleave, ratios

MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Contestant:
    """An application and the tool to call on it."""

    app: App
    tool: str = "echo"


def cpu(contestants: Mapping[str, Contestant], effort: Effort) -> Mapping[str, Sequence[float]]:
    """CPU seconds per call of each, interleaved, after a look at what each of them answers."""

    async def run() -> Mapping[str, Sequence[float]]:
        async with AsyncExitStack() as stack:
            posts = {}
            for name, contestant in contestants.items():
                state = await stack.enter_async_context(running(contestant.app))
                posts[name] = poster(contestant.app, contestant.tool, state)
                message.check(await posts[name]())
            return await interleave(posts, effort)

    return asyncio.run(run())


@row("B1", "one call, in process / bare `MCPServer`")
def overhead(effort: Effort) -> Iterable[Measurement]:
    seconds = cpu({name: Contestant(make()) for name, make in CONTESTANTS.items()}, effort)
    yield measured(HOST, ratios(seconds[HOST], seconds[BARE]), goal=Goal(0.40))
    for name in CONTESTANTS:
        if name != HOST:
            yield measured(name, ratios(seconds[name], seconds[BARE]))


@row("B3", "one more middleware that does nothing")
def layers(effort: Effort) -> Iterable[Measurement]:
    steps = (0, 1, 25, 50)
    stacks = {str(n): Contestant(host(plugins=[NoOp(name=f"noop-{i}") for i in range(n)])) for n in steps}
    seconds = cpu(stacks, effort)
    for fewer, more in ((0, 50), (0, 25), (25, 50)):
        added = differences(seconds[str(more)], seconds[str(fewer)], scale=MICROSECONDS / (more - fewer))
        yield measured(f"each, from {fewer} to {more}", added, "µs", Goal(1.0))


@row("B4", "one call as tools and providers grow")
def catalog(effort: Effort) -> Iterable[Measurement]:
    def tools(count: int) -> Contestant:
        names = [f"tool_{number}" for number in range(count)]
        return Contestant(host({"echo": lowlevel_server(names)}), names[-1])

    def providers(count: int) -> Contestant:
        names = [f"tool_{number}" for number in range(count)]
        return Contestant(host({f"provider-{name}": lowlevel_server([name]) for name in names}), names[-1])

    def bare(count: int) -> Contestant:
        return Contestant(echo_server(tools=count).streamable_http_app())

    contestants = {
        "1 tool": tools(1),
        "10,000 tools": tools(10_000),
        "1 provider": providers(1),
        "100 providers": providers(100),
        "bare, 1 tool": bare(1),
        "bare, 200 tools": bare(200),
    }
    seconds = cpu(contestants, effort)
    for many, one, goal in (
        ("10,000 tools", "1 tool", Goal(1.05)),
        ("100 providers", "1 provider", Goal(1.05)),
        ("bare, 200 tools", "bare, 1 tool", None),
    ):
        yield measured(f"{many} / {one}", ratios(seconds[many], seconds[one]), goal=goal)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern plugin in memory mode: its entry point, what it may add to a call, its table, and what it builds on."""

    plugin: str
    limit_us: float
    table: Mapping[str, Any] = field(default_factory=dict)
    upon: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NOWHERE = "http://127.0.0.1:9/v1/traces"
"""Nothing listens there: what exports cost is not the call's."""

CALLER = {"token": message.TOKEN, "tenant": "acme", "scopes": ["execute:tools"]}
EVENTS = {"url": "memory://"}
KEY = secrets.token_urlsafe(32)
WITH_CALLER = {"auth": {"tokens": {"bench": CALLER}}}
"""Who is not known has no tenant and no roles."""

PATTERNS = (
    Pattern("errors", 30),
    Pattern("tracing", 30, {"sample": 0.01, "endpoint": NOWHERE}),
    Pattern("metrics", 30),
    Pattern("logs", 30, {"path": "/dev/null", "level": "INFO"}),  # as served; at a higher level no line is written
    Pattern("health", 30),
    Pattern("shutdown", 30),
    Pattern("rate-limit", 10, {"limit": "1000000/second"}),
    Pattern("cache", 10, {"tools": {"echo": "1h"}}),  # a hit: the provider is not asked
    Pattern("dedup", 10, {"tools": ["echo"]}),
    Pattern("retry", 30, {"tools": ["echo"]}),
    Pattern("circuit-breaker", 10),
    Pattern("timeout", 30),
    Pattern("bulkhead", 30),
    Pattern("pool", 30),
    Pattern("auth", 30, {"tokens": {"bench": CALLER}}),
    Pattern("tenancy", 30, {}, WITH_CALLER),
    Pattern(
        "rbac",
        10,
        {"principals": {"bench": "user"}, "roles": {"user": {"permissions": ["execute:tools"]}}},
        WITH_CALLER,
    ),
    Pattern("validation", 10),
    Pattern("pinning", 30, {"file": str(Path(gettempdir(), "plughost-bench-pins.toml"))}),
    Pattern("encryption", 30, {"keys": [KEY]}),
    Pattern("events", 30, EVENTS),
    Pattern("snapshots", 30, {}, {"events": EVENTS}),
    Pattern("bus", 30),
)


@row("B5", "one plugin alone")
def patterns(effort: Effort) -> Iterable[Measurement]:
    """Each beside its base and nobody else: among two dozen hosts, a call finds the processor's caches full of others'.

    That makes all calls slower, and what they differ in drowns. So each has fewer turns, and the row takes as long.
    """
    fewer = replace(effort, rounds=max(effort.rounds * 3 // 5, 1))
    for pattern in PATTERNS:
        base = Contestant(host(tables=pattern.upon))
        more = Contestant(host(tables={**pattern.upon, pattern.plugin: pattern.table}))
        seconds = cpu({"without": base, "with": more}, fewer)
        added = differences(seconds["with"], seconds["without"], scale=MICROSECONDS)
        yield measured(f"`{pattern.plugin}` adds", added, "µs", Goal(pattern.limit_us))


EVERYTHING = {pattern.plugin: pattern.table for pattern in PATTERNS} | {
    "cache": {},  # no hit: each call goes all the way
    "retry": {},
    "dedup": {},
}


@row("B2", "host with every plugin / bare `MCPServer`")
def everything(effort: Effort) -> Iterable[Measurement]:
    contestants = {HOST: Contestant(host(tables=EVERYTHING)), BARE: Contestant(CONTESTANTS[BARE]())}
    seconds = cpu(contestants, effort)
    yield measured(f"host with {len(EVERYTHING)} plugins", ratios(seconds[HOST], seconds[BARE]), goal=Goal(0.55))
