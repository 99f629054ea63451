"""Async context managers that stay entered until somebody says otherwise, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Holder:
    """Enters context managers for a test, and leaves them in reverse order.

    Entered in a task of their own they may be made inside a block such as `fail_after` and outlive it, which the cancel
    scopes of anyio otherwise forbid.
    """

    def __init__(self) -> None:
        self._held: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter one; gives what it gives."""
        entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        leave = asyncio.Event()

        async def keep() -> None:
            try:
                async with manager as value:
                    entered.set_result(value)
                    await leave.wait()
            except BaseException as error:
                if entered.done():
                    raise
                entered.set_exception(error)

        task = asyncio.create_task(keep(), name=f"holding {manager!r}")
        try:
            value = await entered
        except BaseException:
            task.cancel()
            raise
        self._held.append((task, leave))
        return value

    async def close(self) -> None:
        """Leave all of them, the newest first.

        Raises:
            ExceptionGroup: Some raised; the others were left all the same.
        """
        errors = []
        while self._held:
            task, leave = self._held.pop()
            leave.set()
            try:
                await task
            except Exception as error:  # noqa: BLE001 - raised below, when all are left
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("several things could not be closed", errors)


@asynccontextmanager
async def holding() -> AsyncIterator[Holder]:
    """A holder, closed at the end of the block."""
    holder = Holder()
    try:
        yield holder
    finally:
        await holder.close()
