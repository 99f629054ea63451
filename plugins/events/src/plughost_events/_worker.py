"""A thread with a database connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, Generic, ParamSpec, TypeVar

from plughost_events._database import Database
from plughost_events._errors import StoreUnavailable

DatabaseT = TypeVar("DatabaseT", bound=Database)
P = ParamSpec("P")
T = TypeVar("T")


class Worker(Generic[DatabaseT]):
    """Runs one piece of work after the other. A thread of its own: tools that hang in threads must not delay it."""

    def __init__(self, database: DatabaseT, name: str) -> None:
        self.database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def run(self, work: Callable[Concatenate[DatabaseT, P], T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """`work(database, …)`. After a failure the connection is made anew.

        Raises:
            StoreUnavailable: The database failed.
        """

        def do() -> T:
            try:
                return work(self.database, *args, **kwargs)
            except BaseException as error:
                self.database.reset()
                if isinstance(error, self.database.errors):
                    raise StoreUnavailable(f"{type(error).__name__}: {error}".strip()) from error
                raise

        return asyncio.get_running_loop().run_in_executor(self._thread, do)

    async def run_within(
        self, limit: float, work: Callable[Concatenate[DatabaseT, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same, ended if it takes longer than `limit` seconds.

        Raises:
            StoreUnavailable: The database failed, or did not answer in time.
        """
        running = asyncio.ensure_future(self.run(work, *args, **kwargs))
        _, late = await asyncio.wait({running}, timeout=limit)
        if late:
            self.database.interrupt()
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise StoreUnavailable(f"no answer within {limit:g} s")
        return await running

    async def aclose(self, limit: float) -> None:
        """Finish what runs, at most for `limit` seconds, and close the connection."""
        closed = asyncio.get_running_loop().run_in_executor(self._thread, self.database.close)
        _, hanging = await asyncio.wait({closed}, timeout=limit)
        if hanging:
            self.database.interrupt()
            await asyncio.wait(hanging, timeout=limit)
        self._thread.shutdown(wait=closed.done(), cancel_futures=True)
