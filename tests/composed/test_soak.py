"""All resilience plugins together, in front of a provider that fails, hangs, is slow, and goes away."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import psutil
import pytest
from composed.soak import Soak
from plughost_testing import VirtualClock
from plughost_testing.services import Redis, Stack

pytestmark = pytest.mark.anyio

MINUTE = 60.0
LEAST_CALLS = 5000
SLACK = 2.0
"""Seconds that a busy machine may add to a time."""
FLAT = 8.0
"""MiB that may come on top once all has been used: what the allocator keeps, and windows that are not full yet."""


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Virtual time, for the tests that ask for it."""
    if "virtual_clock" not in request.fixturenames:
        return "asyncio"
    clock: VirtualClock = request.getfixturevalue("virtual_clock")
    return clock.backend


async def test_a_virtual_minute(virtual_clock: VirtualClock, no_leaks: None) -> None:
    """Calls are answered once and rightly, or refused for a reason; no limit is passed, and nothing is left."""
    soak = Soak(seed=5, clock=virtual_clock)
    async with soak.host:
        await soak.run(MINUTE)
        soak.check(slack=0.01)
    assert soak.seen.calls.total() > LEAST_CALLS


@pytest.mark.alone
@pytest.mark.services
async def test_a_minute_with_redis_that_goes_and_comes(stack: Stack, no_leaks: None) -> None:
    """All that holds on shared state too, while its server is frozen, killed and restarted; memory stays flat."""
    redis = stack.start(Redis())
    soak = Soak(seed=5, url=redis.url)
    process = psutil.Process()
    settled = 0

    async def trouble() -> None:
        nonlocal settled
        await anyio.sleep(MINUTE / 4)
        gc.collect()
        settled = process.memory_info().rss
        for begin, end in ((redis.freeze, redis.thaw), (redis.kill, redis.start)):
            await anyio.to_thread.run_sync(begin)
            await anyio.sleep(MINUTE / 20)
            await anyio.to_thread.run_sync(end)
            await anyio.sleep(MINUTE / 6)

    async with soak.host:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trouble)
            await soak.run(MINUTE)
        soak.check(slack=SLACK)
        gc.collect()
        grown = (process.memory_info().rss - settled) / 2**20
        checks = {f"{name} {check.name}": check for name, check in soak.host.health_checks}
        for check in checks.values():
            await check.check()  # all is well again
    assert soak.seen.calls.total() > LEAST_CALLS
    assert any("redis" in name.lower() for name in checks)
    assert grown < FLAT, f"{grown:.1f} MiB more after the first quarter"
