"""A second attempt beside the first, when that takes longer than usual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def hedged(
    attempt: Callable[[], Awaitable[T]], *, wait: Callable[[], Awaitable[object]], allowed: Callable[[], bool]
) -> T:
    """The answer of the first attempt that succeeds: of one now, and of one after `wait`, if it is `allowed` then.

    The other one is cancelled and has ended when this returns. If both fail, the failure that came last is raised; an
    attempt that fails before the second has begun has none beside it. After Dean and Barroso, "The Tail at Scale"
    (CACM 2013).
    """
    answers: list[T] = []
    failures: list[Exception] = []
    alone = True

    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            try:
                answers.append(await attempt())
            except Exception as error:  # noqa: BLE001 - raised below, unless the other one succeeds
                failures.append(error)
            if answers or alone:
                tasks.cancel_scope.cancel()

        tasks.start_soon(run)
        await wait()
        if allowed():
            alone = False
            await run()
    if answers:
        return answers[0]
    raise failures[-1] if failures else asyncio.CancelledError
