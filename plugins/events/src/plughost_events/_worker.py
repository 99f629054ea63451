"""A thread with a database connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, Generic, ParamSpec, TypeVar

from plughost_events._database import Database

DatabaseT = TypeVar("DatabaseT", bound=Database)
P = ParamSpec("P")
T = TypeVar("T")


class Worker(Generic[DatabaseT]):
    """Runs one piece of work after the other. A thread of its own: tools that hang in threads must not delay it."""

    def __init__(self, database: DatabaseT, name: str) -> None:
        self.database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def run(self, work: Callable[Concatenate[DatabaseT, P], T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """`work(database, …)`. After a failure the connection is made anew."""

        def do() -> T:
            try:
                return work(self.database, *args, **kwargs)
            except BaseException:
                self.database.reset()
                raise

        return asyncio.get_running_loop().run_in_executor(self._thread, do)

    async def aclose(self, limit: float) -> None:
        """Finish what runs, at most for `limit` seconds, and close the connection."""
        closed = asyncio.get_running_loop().run_in_executor(self._thread, self.database.close)
        _, hanging = await asyncio.wait({closed}, timeout=limit)
        if hanging:
            self.database.interrupt()
            await asyncio.wait(hanging, timeout=limit)
        self._thread.shutdown(wait=closed.done(), cancel_futures=True)
