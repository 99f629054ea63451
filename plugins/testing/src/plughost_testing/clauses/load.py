"""The plugin under many calls, under calls that are cancelled, and what it costs."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from statistics import median

import anyio
from mcp.shared.exceptions import MCPError

from plughost_testing._cancellation import Interruption
from plughost_testing._leaks import Inventory, check_leaks
from plughost_testing._provider import text
from plughost_testing._subject import LIMIT, Stage, Subject, echo_call

CONCURRENT = 100
MOST_AWAIT_POINTS = 1000
ROUNDS = 5
CALLS_A_ROUND = 100


async def right_under_concurrency(subject: Subject) -> None:
    """Of 100 concurrent calls each gets the answer that it gets alone, and arrives at the provider once."""
    async with subject.stage(subject.make()) as stage:
        expected = {number: subject.essence(await stage.echo(number)) for number in range(10)}
    async with subject.stage(subject.make()) as stage:
        answers = await _all_at_once(subject, stage)
        for number, answer in answers.items():
            alone = expected[number % 10]
            assert str(answer).replace(f"number {number}", f"number {number % 10}") == str(alone), (
                f"call {number} of {CONCURRENT} concurrent ones got {answer}; alone it gets the like of {alone}"
            )
        arrived = Counter(item.params["arguments"]["number"] for item in stage.provider.calls)
        lost = {number: 0 for number in range(CONCURRENT) if not arrived[number]}
        doubled = {number: times for number, times in arrived.items() if times > 1}
        wrong = {**({} if subject.reuses else lost), **({} if subject.repeats else doubled)}
        assert not wrong, f"calls arrived at the provider not once, but (call: times) {wrong}"


async def survives_cancellation(subject: Subject) -> None:
    """A call cancelled at any of its await points ends cancelled, leaves nothing, and harms no later call.

    At each point one call is cancelled, then 100 at once: a permit or lock that is not given back is missed then.
    """
    async with subject.stage(subject.make()) as stage:
        expected = subject.essence(await stage.echo(1))
        for at in count(1):
            assert at < MOST_AWAIT_POINTS, f"a call of echo waits more than {MOST_AWAIT_POINTS} times"
            where = await _cancelled(stage, at, calls=1)
            if where is None:
                break
            await _cancelled(stage, at, calls=CONCURRENT)
            after = subject.essence(await _in_time(stage, f"after calls {where}, the next one"))
            assert after == expected, f"calls {where} change the next one: {after} instead of {expected}"
        assert at > 1, "a call of echo waits nowhere, although its provider does"


async def _cancelled(stage: Stage, at: int, *, calls: int) -> str | None:
    """Cancel calls at their await point `at`, and see what is left. `None` if they do not wait as often."""
    before = Inventory.take(timers=True)
    interruptions = [Interruption(stage.host.dispatch(echo_call(1)), at) for _ in range(calls)]
    tasks = {asyncio.ensure_future(item.run()): item for item in interruptions}
    _, pending = await asyncio.wait(tasks, timeout=LIMIT)
    where = next((f"cancelled at await point {at} ({item.where})" for item in interruptions if item.where), None)
    for task in pending:
        task.cancel()
    assert not pending, f"{len(pending)} of {calls} calls {where} do not end"
    for task, item in tasks.items():
        if item.where is not None and not task.cancelled():
            raise AssertionError(f"a call {where} ends with {task.exception() or task.result()!r}, not cancelled")
    await check_leaks(before, what=f"{calls} calls {where}", timers=True)
    inside, running = stage.host.generation.pipeline.gate.inside, len(stage.provider.running)
    assert not inside, f"of {calls} calls {where} {inside} are counted as running still"
    assert not running, f"of {calls} calls {where} {running} still run in the provider"
    return where


async def measure_overhead(subject: Subject) -> float:
    """Microseconds that the plugin adds to a call, median of several rounds; real time, of this machine, now."""
    differences = []
    for _ in range(ROUNDS):
        async with subject.stage() as bare, subject.stage(subject.make()) as stage:
            differences.append(-await _round(bare) + await _round(stage))
    return median(differences)


async def _round(stage: Stage) -> float:
    """Microseconds a call, of one round."""
    stage.provider.script("echo", text("at once"))
    calls = [echo_call(number) for number in range(CALLS_A_ROUND)]
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        for call in calls:
            with suppress(MCPError):  # without the plugin, what it mends may fail
                await stage.host.dispatch(call)
        return (time.perf_counter() - begin) / len(calls) * 1e6
    finally:
        if collecting:
            gc.enable()


async def _all_at_once(subject: Subject, stage: Stage) -> dict[int, object]:
    answers: dict[int, object] = {}

    async def one(number: int) -> None:
        answers[number] = subject.essence(await _in_time(stage, f"call {number} of {CONCURRENT}", number))

    async with anyio.create_task_group() as tasks:
        for number in range(CONCURRENT):
            tasks.start_soon(one, number)
    return answers


async def _in_time(stage: Stage, what: str, number: int = 1) -> dict[str, object]:
    try:
        return dict(await stage.echo(number))
    except Exception as error:
        raise AssertionError(f"{what} failed: {error!r}") from error
