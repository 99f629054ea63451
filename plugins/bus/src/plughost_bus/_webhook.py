"""One webhook: its queue, its retries, and what becomes of what nobody takes. Knows neither hooks nor HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from plughost import Clock

from plughost_bus._dead_letters import Letter
from plughost_bus._signature import signed_headers

logger = logging.getLogger("plughost.bus")

GONE = 410
"""The receiver wants no more, ever: the Standard Webhooks specification has the sender stop then."""
LONGEST_WAIT = 3600.0
"""Seconds that a receiver's `Retry-After` may ask for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered: its status, and the seconds it wants to be left alone; or why it did not."""

    status: int = 0
    retry_after: float | None = None
    problem: str = ""

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return self.problem or f"status {self.status}"


Post = Callable[[Mapping[str, str], str], Awaitable[Answer]]
"""Posts headers and a body, and never raises."""


class Policy(Protocol):
    """How a webhook behaves: what of its config it needs."""

    @property
    def events(self) -> Sequence[str]: ...
    @property
    def attempts(self) -> int: ...
    @property
    def backoff(self) -> float: ...
    @property
    def max_backoff(self) -> float: ...
    @property
    def queue(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is to be delivered. `id` is that of the event, so that a receiver can tell a second time from the first."""

    id: str
    body: str


class Webhook:
    """Delivers in order, one at a time: while a receiver is in trouble, nothing else is thrown at it.

    What fails for the last time, and what finds the queue full, goes to `bury`.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        keys: Sequence[bytes],
        *,
        post: Post,
        bury: Callable[[Letter], None],
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self.name = name
        self.policy = policy
        self.problem = ""
        """Why the last delivery ended as a dead letter; empty if it did not."""
        self.gone = False
        """Whether the receiver said that it wants no more."""
        self.delivered = 0
        self.failed = 0
        """Attempts that failed, whatever came of the next."""
        self.dead = 0
        self._keys = keys
        self._post = post
        self._bury = bury
        self._clock = clock
        self._random = random
        self._queue: deque[Delivery] = deque()
        self._attempt = 0
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def wants(self, event_type: str) -> bool:
        """Whether events of this type are for it."""
        return any(fnmatchcase(event_type, pattern) for pattern in self.policy.events)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def room(self) -> int:
        """How many more it can hold."""
        return max(self.policy.queue - len(self._queue), 0)

    def add(self, delivery: Delivery) -> None:
        """Deliver this, later. Never waits."""
        if self.gone:
            self._give_up(delivery, f"the receiver wants no more (status {GONE})", 0)
        elif not self.room:
            self._give_up(delivery, f"{len(self._queue)} were waiting already", 0)
        else:
            self._queue.append(delivery)
            self._idle.clear()
            self._news.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            while not self._queue:
                self._idle.set()
                self._news.clear()
                await self._news.wait()
            wait = await self._deliver(self._queue[0])
            if wait is not None:
                await self._clock.sleep(wait)
                continue
            self._queue.popleft()
            self._attempt = 0
            if self.gone:
                self.give_up(f"the receiver wants no more (status {GONE})")

    async def drained(self) -> None:
        """Wait until nothing is queued."""
        await self._idle.wait()

    def give_up(self, reason: str) -> None:
        """Make dead letters of all that is queued."""
        while self._queue:
            self._give_up(self._queue.popleft(), reason, self._attempt)
            self._attempt = 0
        self._idle.set()

    def take_over(self, other: Webhook) -> None:
        """Go on with what another one, which has been stopped, had queued and counted."""
        self.delivered, self.failed, self.dead = other.delivered, other.failed, other.dead
        while other._queue:
            self.add(other._queue.popleft())

    def resume(self) -> None:
        """Ask the receiver again that wanted no more."""
        self.gone = False

    async def try_once(self, delivery: Delivery) -> Answer:
        """Post something now, past the queue."""
        headers = signed_headers(self._keys, delivery.id, self._clock.time(), delivery.body)
        return await self._post(headers, delivery.body)

    async def _deliver(self, delivery: Delivery) -> float | None:
        """Post once. How long to wait before the next attempt, or `None` if there shall be none."""
        self._attempt += 1
        answer = await self.try_once(delivery)
        if answer.taken:
            self.delivered += 1
            self.problem = ""
            return None
        self.failed += 1
        self.gone = answer.status == GONE
        if self.gone or self._attempt >= self.policy.attempts:
            self._give_up(delivery, str(answer), self._attempt)
            return None
        wait = self.wait_after(self._attempt, answer.retry_after)
        logger.info("webhook %r: attempt %d failed (%s); again in %.3g s", self.name, self._attempt, answer, wait)
        return wait

    def wait_after(self, attempt: int, retry_after: float | None) -> float:
        """Exponential backoff with equal jitter: half of it is certain, half random; never less than what was asked.

        Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
        """
        full = min(self.policy.backoff * 2.0 ** min(attempt - 1, 60), self.policy.max_backoff)
        wait = full * (1 - self._random() / 2)
        return max(wait, min(retry_after or 0.0, LONGEST_WAIT))

    def _give_up(self, delivery: Delivery, reason: str, attempts: int) -> None:
        self.dead += 1
        self.problem = reason
        logger.warning(
            "webhook %r: %s is a dead letter after %d attempts: %s", self.name, delivery.id, attempts, reason
        )
        self._bury(Letter(self.name, delivery.id, delivery.body, reason, attempts, self._clock.time()))
