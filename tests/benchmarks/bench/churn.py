"""Enable and disable a plugin while calls are under way: nothing may fail, and nothing may stay behind."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from plughost import create_host

from bench import message
from bench.asgi import Post, poster
from bench.contestants import NoOp
from bench.echo import echo, echo_server
from bench.process import in_fresh_process, resident_kib
from bench.rows import Goal, Measurement, measured, row
from bench.timing import Effort, interleave, median, ratios

CALLERS = 8
PATIENCE_SECONDS = 30.0
PLUGIN = "churned"


@dataclass(frozen=True, slots=True)
class Churn:
    """What the cycles left behind."""

    answered: int
    failed: int
    cost: list[float]
    """Cost per call afterwards / before, each against a host that was left alone."""
    memory: float
    """Resident memory after all cycles / after the first tenth."""


@row("B8", "enable/disable cycles under load")
def churn(effort: Effort) -> Iterable[Measurement]:
    seen = in_fresh_process(run, effort)
    calls = seen.answered + seen.failed
    yield Measurement(f"failed or lost of {calls:,}", seen.failed, "calls", goal=Goal(0))
    yield measured(f"cost per call after {effort.cycles:,} cycles / before", seen.cost, goal=Goal(1.02))
    yield Measurement("resident memory after / before", seen.memory, goal=Goal(1.02))


def run(effort: Effort) -> Churn:
    logging.basicConfig(level=logging.WARNING)
    return asyncio.run(_run(effort))


async def _run(effort: Effort) -> Churn:
    config = {"host": {"control": False}}
    server = echo_server()
    server.add_tool(_slow_echo, name="slow_echo")
    async with (
        create_host(config, providers={"echo": server}) as churned,
        create_host(config, providers={"echo": echo_server()}) as untouched,
    ):
        posts = {"churned": poster(churned.app), "untouched": poster(untouched.app)}
        before = await interleave(posts, effort)
        load = _Load(poster(churned.app, "slow_echo"))
        warm = max(effort.cycles // 10, 1)
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(load.call())
            for cycle in range(effort.cycles):
                await churned.register(NoOp(name=PLUGIN))
                await load.progress()
                await churned.unregister(PLUGIN)
                await load.progress()
                if cycle == warm:
                    gc.collect()
                    memory = resident_kib()
            load.stopped = True
        gc.collect()
        memory_after = resident_kib()
        after = await interleave(posts, effort)
    base = median(ratios(before["churned"], before["untouched"]))
    cost = [ratio / base for ratio in ratios(after["churned"], after["untouched"])]
    return Churn(load.answered, load.failed, cost, memory_after / memory)


async def _slow_echo(text: str) -> str:
    """Stay long enough to be under way when the plugin comes or goes."""
    await asyncio.sleep(0.001)
    return await echo(text)


class _Load:
    """Callers that call without a pause and count what becomes of their calls."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.answered = 0
        self.failed = 0
        self.stopped = False
        self._end = asyncio.Event()

    async def call(self) -> None:
        while not self.stopped:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    message.check(await self.post())
            except Exception:  # noqa: BLE001 - whatever became of the call, it was not answered
                self.failed += 1
            else:
                self.answered += 1
            self._end.set()
            await asyncio.sleep(0)

    async def progress(self) -> None:
        """Return when another call has come to its end."""
        self._end = asyncio.Event()
        await self._end.wait()
