"""Many callers on a host with all resilience plugins, in front of a provider that misbehaves: what must hold."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR
from plughost import Call, Clock, ErrorCode, HostConfig, Principal, Result
from plughost_testing import ScriptedProvider, make_call, make_host, text

CALLERS = 24
LIMIT = 8
"""Calls that may be at the provider at once."""
TOTAL = 4.0
"""Seconds that a call may take in all."""
ATTEMPTS = 3
BUDGET, FLOOR = 0.2, 10
RATE_LIMIT, RATE_PERIOD = 300, 10.0

SAFE, UNSAFE, CACHED = "safe", "unsafe", "lookup"
"""A tool that may run twice, one that nobody has named, and one whose answers are kept."""

EXPECTED = {
    INTERNAL_ERROR,
    CONNECTION_CLOSED,
    ErrorCode.RATE_LIMIT_EXCEEDED,
    ErrorCode.CIRCUIT_OPEN,
    ErrorCode.TIMEOUT,
    ErrorCode.BULKHEAD_FULL,
    ErrorCode.UPSTREAM_UNAVAILABLE,
}
"""All that may be said of a call that is not answered."""


def config(url: str = "memory://") -> HostConfig:
    """Every resilience plugin, and faults of every kind that a resilience plugin can do something about."""
    faults = [
        {"kind": "error", "rate": 0.08},
        {"kind": "latency", "rate": 0.1, "seconds": 0.1, "jitter": 0.4},
        {"kind": "hang", "rate": 0.003},
        {"kind": "disconnect", "rate": 0.0005, "seconds": 1.0},
    ]
    tables: dict[str, dict[str, Any]] = {
        "errors": {},
        "shutdown": {},
        "rate-limit": {"limit": f"{RATE_LIMIT}/{RATE_PERIOD:.0f}s", "url": url},
        "cache": {"tools": {CACHED: 0.5}, "url": url},
        "dedup": {"tools": [CACHED], "url": url},
        "retry": {"attempts": ATTEMPTS, "tools": [SAFE], "budget": BUDGET, "budget_floor": FLOOR, "backoff": 0.05},
        "circuit-breaker": {"open": 1.0, "open_max": 5.0, "window": 10.0, "url": url},
        "timeout": {"attempt": 1.0, "total": TOTAL},
        "bulkhead": {"limit": LIMIT, "max_wait": 1.0, "per": ["provider"]},
        "pool": {},
        "chaos": {"i_know": True, "seed": 7, "faults": faults},
    }
    return HostConfig.model_validate({"host": {"control": False}, "plugins": tables})


@dataclass
class Seen:
    """What happened."""

    calls: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    arrivals: Counter[tuple[str, int]] = field(default_factory=Counter)
    at_once: int = 0
    slowest: float = 0.0
    admitted: dict[str, list[float]] = field(default_factory=dict)


class Soak:
    """A host under load for a while; then `check()`."""

    def __init__(self, seed: int, url: str = "memory://", clock: Clock | None = None) -> None:
        self.seen = Seen()
        self.random = random.Random(seed)
        self.provider = ScriptedProvider("flaky", tools=[SAFE, UNSAFE, CACHED])
        for tool in (SAFE, UNSAFE, CACHED):
            self.provider.script(tool, self._serve)
        self.host = make_host(providers=[self.provider], clock=clock, config=config(url))
        self.seconds = 0.0
        self._number = 0
        self._inside = 0

    async def run(self, seconds: float) -> None:
        """All callers, for so long."""
        self.seconds = seconds
        end = self.host.clock.monotonic() + seconds
        async with anyio.create_task_group() as callers:
            for number in range(CALLERS):
                callers.start_soon(self._caller, f"caller-{number % 6}", end)

    async def _serve(self, call: Call, params: Mapping[str, Any]) -> Result:
        given = params["arguments"]
        self.provider.calls.clear()  # the double keeps them all, and memory is watched here
        self.seen.arrivals[params["name"], given["number"]] += 1
        self._inside += 1
        self.seen.at_once = max(self.seen.at_once, self._inside)
        try:
            await anyio.sleep(0.02)
        finally:
            self._inside -= 1
        assert call.principal is not None
        return text(f"{params['name']} {given['number']} for {call.principal.subject}")

    async def _caller(self, who: str, end: float) -> None:
        clock = self.host.clock
        while clock.monotonic() < end:
            tool = self.random.choice((SAFE, SAFE, UNSAFE, CACHED))
            self._number += 1
            number = self.random.randrange(3) if tool == CACHED else self._number
            answered = await self._call(who, tool, number)
            await clock.sleep(self.random.random() * (0.1 if answered else 0.6))

    async def _call(self, who: str, tool: str, number: int) -> bool:
        """Make a call, and say whether it was answered: who was refused waits a little longer."""
        clock, seen = self.host.clock, self.seen
        call = make_call("tools/call", {"name": tool, "arguments": {"number": number}})
        call.principal = Principal(who)
        seen.calls[tool] += 1
        begin, answered = clock.monotonic(), False
        try:
            result = await self.host.dispatch(call)
        except MCPError as error:
            seen.errors[error.code] += 1
            if error.code not in EXPECTED or not error.message:
                seen.wrong.append(f"{tool} {number}: {error.code} {error.message}")
            if error.code != ErrorCode.RATE_LIMIT_EXCEEDED and "cannot be checked" not in error.message:
                seen.admitted.setdefault(who, []).append(begin)
        else:
            seen.answered += 1
            seen.admitted.setdefault(who, []).append(begin)
            if result["content"][0]["text"] != f"{tool} {number} for {who}":
                seen.wrong.append(f"{tool} {number} for {who} got {result['content']}")
            answered = True
        seen.slowest = max(seen.slowest, clock.monotonic() - begin)
        return answered

    def check(self, slack: float) -> None:
        """What must hold, whatever the provider did. `slack` is what the machine may add to a time, in seconds."""
        seen, gate = self.seen, self.host.generation.pipeline.gate
        assert seen.wrong == []
        assert seen.answered + seen.errors.total() == seen.calls.total()
        assert seen.answered > seen.calls.total() * 0.5, f"most calls are refused: {seen.errors}"
        assert seen.at_once <= LIMIT, f"{seen.at_once} calls were at the provider at once"
        assert seen.slowest <= TOTAL + slack, f"a call took {seen.slowest:.2f} s"
        twice = [key for key, times in seen.arrivals.items() if key[0] == UNSAFE and times > 1]
        assert twice == [], "a tool that nobody named ran twice"
        most = max((times for (tool, _), times in seen.arrivals.items() if tool == SAFE), default=0)
        assert most <= ATTEMPTS
        tried = sum(times for (tool, _), times in seen.arrivals.items() if tool == SAFE)
        minutes = 1 + self.seconds // 60
        assert tried <= seen.calls[SAFE] * (1 + BUDGET) + FLOOR * minutes, "retries are over their budget"
        kept = sum(times for (tool, _), times in seen.arrivals.items() if tool == CACHED)
        assert kept < seen.calls[CACHED] * 0.8, "nothing is answered from the cache"
        for who, times in seen.admitted.items():
            worst = max(sum(at <= other < at + RATE_PERIOD for other in times) for at in times)
            assert worst <= RATE_LIMIT * 1.05 + 1, f"{worst} calls of {who} were admitted in {RATE_PERIOD:.0f} s"
        assert gate.inside == 0
        assert self._inside == 0
