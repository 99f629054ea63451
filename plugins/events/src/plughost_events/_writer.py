"""The queue in front of the database: bounded, written in batches, and never emptied without having been written."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from plughost import Clock

from plughost_events._database import Database, Outcome, Request
from plughost_events._errors import StoreUnavailable, VersionConflict
from plughost_events._event import Prepared, Receipt
from plughost_events._worker import Worker

logger = logging.getLogger("plughost.events")

BATCH = 1000
"""Events in a transaction."""
RETRY = (0.1, 2.0)
"""Seconds from one attempt to reach a database that is away to the next: first, and after doubling at most."""


class Listener(Protocol):
    """Who is told what becomes of the store."""

    def written(self, outcomes: Sequence[Outcome]) -> None: ...

    def down(self, reason: str) -> None: ...

    def up(self) -> None: ...


class Writer:
    """Takes events at any time, and has them written in the order in which they came: group commit.

    While one batch is being written the next one gathers, so that one `fsync` serves all who wait. `gather` seconds
    may pass before a batch is begun that nobody waits for.

    Each event needs a place in the queue first, and `limit` are all. Who wants to be sure that an event is stored
    reserves its place before he does what the event is about.

    What cannot be written stays, and is tried again until it can; storing is idempotent, so a batch whose commit was
    not confirmed is stored once.
    """

    def __init__(
        self,
        worker: Worker[Database],
        clock: Clock,
        listener: Listener,
        *,
        limit: int,
        gather: float,
        patience: float,
    ) -> None:
        self.limit = limit
        self.reason = ""
        """Why nothing can be written now; empty if all is well."""
        self.taken = 0
        """Places taken: by events that wait or are being written, and by those that are to come."""
        self._worker = worker
        self._clock = clock
        self._listener = listener
        self._gather = gather
        self._patience = patience
        self._queue: deque[Request] = deque()
        self._waiting = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look whether the database is there. One that is away is looked for from now on.

        Raises:
            StoreError: It cannot be used as it is configured.
        """
        try:
            await self._attempt([])
        except StoreUnavailable as error:
            self._failed(_reason(error))
        self._task = self._loop.create_task(self._run(), name="plughost-events writer")

    async def aclose(self, limit: float) -> int:
        """Write what waits, at most for `limit` seconds. Returns how many events are lost."""
        task = self._task
        assert task is not None
        self._task = None
        self._news.set()
        if self._waiting:
            await asyncio.wait({task}, timeout=limit)
        task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for request in self._queue:
            self._answer(request, StoreUnavailable("the store was closed before this was written"))
        return self._waiting

    @property
    def waiting(self) -> int:
        """Events that are not written yet."""
        return self._waiting

    @property
    def lag(self) -> float:
        """Seconds since the oldest event happened that is not written yet."""
        return max(self._clock.time() - self._queue[0].events[0].time / 1e6, 0.0) if self._queue else 0.0

    # -- places -------------------------------------------------------------------------------------------------------

    def reserve(self, count: int = 1) -> bool:
        """Take places in the queue, if there are so many."""
        if self.taken + count > self.limit:
            return False
        self.taken += count
        return True

    async def reserved(self, count: int) -> None:
        """Take places in the queue, once there are so many. Whoever asked first need not be the first.

        Raises:
            StoreUnavailable: Nothing can be written now, or the events are more than the queue ever takes.
        """
        if count > self.limit:
            raise StoreUnavailable(f"{count} events at once are more than the queue takes ({self.limit}); split them")
        while not self.reserve(count):
            if self.reason:
                raise StoreUnavailable(self.reason)
            self._room.clear()
            await self._room.wait()

    def release(self, count: int = 1) -> None:
        """Give places back."""
        self.taken -= count
        self._room.set()

    # -- events -------------------------------------------------------------------------------------------------------

    def post(self, stream: str, event: Prepared) -> None:
        """Have an event written soon. Its place is reserved."""
        self._put(Request(stream, (event,)))
        if self._waiting >= BATCH or not self._gather:
            self._news.set()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._gather, self._news.set)

    def submit(self, stream: str, events: Sequence[Prepared], expected: int | None = None) -> asyncio.Future[Outcome]:
        """Have events written at once; what becomes of them. Their places are reserved."""
        done: asyncio.Future[Outcome] = self._loop.create_future()
        self._put(Request(stream, events, expected, done))
        self._news.set()
        return done

    async def stored(self, done: asyncio.Future[Outcome]) -> tuple[Receipt, ...]:
        """Where the events went.

        Raises:
            VersionConflict: The stream is not at the expected version.
            StoreUnavailable: They were not written in time. They still wait, and will be.
        """
        finished, _ = await asyncio.wait({done}, timeout=self._patience)
        if not finished:
            raise StoreUnavailable(self.reason or f"not written within {self._patience:g} s")
        outcome = done.result()
        if isinstance(outcome, VersionConflict):
            raise outcome
        return outcome

    def _put(self, request: Request) -> None:
        self._queue.append(request)
        self._waiting += len(request.events)

    # -- the task -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        if self.reason:
            await self._write([])
        while self._task is not None or self._queue:
            if self._task is not None:
                await self._news.wait()
                self._news.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            last = self._queue[-1] if self._queue else None
            while self._queue and last is not None:
                batch = self._batch()
                await self._write(batch)
                if batch[-1] is last:
                    break

    def _batch(self) -> list[Request]:
        batch: list[Request] = []
        count = 0
        for request in self._queue:
            count += len(request.events)
            if batch and count > BATCH:
                break
            batch.append(request)
        return batch

    async def _write(self, batch: list[Request]) -> None:
        wait, longest = RETRY
        while True:
            try:
                outcomes = await self._attempt(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the events stay until they are written
                self._failed(_reason(error))
                await self._clock.sleep(wait)
                wait = min(wait * 2, longest)
            else:
                break
        for request, outcome in zip(batch, outcomes, strict=True):
            self._queue.popleft()
            self._answer(request, outcome)
        count = sum(len(request.events) for request in batch)
        self._waiting -= count
        self.release(count)
        if self.reason:
            self.reason = ""
            self._listener.up()
        self._listener.written(outcomes)

    async def _attempt(self, batch: list[Request]) -> list[Outcome]:
        work = asyncio.ensure_future(self._worker.run(Database.write, batch))
        _, late = await asyncio.wait({work}, timeout=self._patience)
        if late:
            self._failed(f"no answer within {self._patience:g} s")
        return await work

    def _failed(self, reason: str) -> None:
        begins, self.reason = not self.reason, reason
        self._room.set()  # who waits for a place is told
        if begins:
            self._listener.down(reason)

    @staticmethod
    def _answer(request: Request, outcome: Outcome | Exception) -> None:
        if request.done is None or request.done.done():
            return
        if isinstance(outcome, Exception) and not isinstance(outcome, VersionConflict):
            request.done.set_exception(outcome)
            request.done.exception()  # its asker may have gone
        else:
            request.done.set_result(outcome)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, StoreUnavailable) else f"{type(error).__name__}: {error}".strip()
