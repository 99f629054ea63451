"""The algorithm: which resource goes to whom, when to open one, and when to let one go. Neither waits nor opens.

Whoever asked first is served first, by whatever is ready first: a resource given back, one checked, or one opened. Of
several idle ones the last used is lent, so that those not needed grow old and are closed. What happens to a resource
(opened, checked, closed) is ordered from its `Keeper`, which reports back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import CodeType
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

JITTER = 0.1
"""Share of its lifetime by which a resource may end earlier, so that those opened together do not end together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a pool; times in seconds."""

    min_size: int
    max_size: int
    max_waiting: int
    timeout: float
    max_idle: float
    max_lifetime: float
    check_after: float
    leak_after: float
    io_timeout: float
    close_timeout: float


class State(Enum):
    """Where a resource is in its life."""

    OPENING = "opening"
    IDLE = "idle"
    CHECKING = "checking"
    IN_USE = "in use"
    CLOSING = "closing"
    CLOSED = "closed"


IDLE, IN_USE = State.IDLE, State.IN_USE  # looking them up in the class costs more than all else in lending


class Slot(Generic[T]):
    """A place of the pool, and the resource in it once that is open."""

    __slots__ = ("borrowed_at", "broken", "expires_at", "idle_since", "reported", "state", "value", "where")

    value: T

    def __init__(self) -> None:
        self.state = State.OPENING
        self.broken = False
        self.expires_at = 0.0
        self.idle_since = 0.0
        self.borrowed_at = 0.0
        self.where: Where | None = None
        self.reported = False


Where = tuple[CodeType, int]
"""Code and line that borrowed; put into words only when somebody asks."""


class Waiter(Generic[T]):
    """One who asked for a resource. `wake()` is called once it has `slot` or `error`, or is told to give up."""

    __slots__ = ("error", "slot", "wake", "where")

    def __init__(self, where: Where | None, wake: Callable[[], None]) -> None:
        self.where = where
        self.wake = wake
        self.slot: Slot[T] | None = None
        self.error: Exception | None = None


class Keeper(Protocol[T]):
    """Does what takes time. Each order is answered by a report to the stock: never from inside the order."""

    def open(self, slot: Slot[T]) -> None:
        """Answered by `opened` or `failed`."""

    def check(self, slot: Slot[T]) -> None:
        """Answered by `checked`."""

    def close(self, slot: Slot[T]) -> None:
        """Answered by `closed`."""


class Stock(Generic[T]):
    """All slots of a pool, and all who wait.

    `now()` tells seconds, `random()` is between 0 and 1.
    """

    def __init__(
        self, limits: Limits, keeper: Keeper[T], now: Callable[[], float], random: Callable[[], float], *, checks: bool
    ) -> None:
        self.limits = limits
        self.slots: set[Slot[T]] = set()
        self.idle: list[Slot[T]] = []
        """The last used at the end."""
        self.waiting: deque[Waiter[T]] = deque()
        self.ended = False
        self._keeper = keeper
        self._now = now
        self._random = random
        self._checks = checks

    # -- borrowers ----------------------------------------------------------------------------------------------------

    def take(self, where: Where | None) -> Slot[T] | None:
        """A slot that can be had at once and as it is, unless somebody is before."""
        if self.waiting or not self.idle:
            return None
        slot, now = self.idle[-1], self._now()
        if now >= slot.expires_at or self._is_stale(slot, now):
            return None
        self.idle.pop()
        self._lend(slot, where, now)
        return slot

    def ask(self, waiter: Waiter[T]) -> None:
        """Join the queue."""
        self.waiting.append(waiter)
        self._match()

    def give_up(self, waiter: Waiter[T]) -> None:
        """Leave the queue, if still in it. What was opened or checked meanwhile serves the next, or lies idle."""
        if waiter.slot is None and waiter.error is None and waiter in self.waiting:
            self.waiting.remove(waiter)
            waiter.wake()

    def give_back(self, slot: Slot[T]) -> None:
        """Return what was borrowed: to the next in line, to the idle ones, or to be closed if it has had its day."""
        if slot.state is not IN_USE:
            return  # closed by force meanwhile
        slot.where = None
        now = self._now()
        too_many = len(self.slots) > self.limits.max_size and self._lasting > self.limits.max_size
        if slot.broken or too_many or now >= slot.expires_at:
            self._retire(slot)
            self._match()
        else:
            self._is_ready(slot, now)

    # -- the keeper's reports -----------------------------------------------------------------------------------------

    def opened(self, slot: Slot[T]) -> None:
        """It is open."""
        now = self._now()
        slot.expires_at = now + self.limits.max_lifetime * (1 - JITTER * self._random())
        self._is_ready(slot, now)

    def failed(self, slot: Slot[T], error: Exception) -> None:
        """It could not be opened. Whoever waited for it gets the error, if nothing else is on its way to them."""
        slot.state = State.CLOSED
        self.slots.discard(slot)
        if len(self.waiting) > self._coming:
            self._answer(self.waiting.popleft(), error)
        self._match()

    def checked(self, slot: Slot[T], *, good: bool) -> None:
        """It was checked."""
        if good:
            self._is_ready(slot, self._now())
        else:
            self._retire(slot)
            self._match()

    def closed(self, slot: Slot[T]) -> None:
        """It is closed, or gone by itself: its place is free."""
        if slot.state is State.IDLE:
            self.idle.remove(slot)
        slot.state = State.CLOSED
        self.slots.discard(slot)
        self.warm()
        self._match()

    # -- upkeep -------------------------------------------------------------------------------------------------------

    def warm(self) -> None:
        """Open what is missing of the minimum."""
        lacking = min(self.limits.min_size, self.limits.max_size) - self._lasting
        for _ in range(min(lacking, self.limits.max_size - len(self.slots)) if not self.ended else 0):
            self._open()

    def sweep(self) -> list[Slot[T]]:
        """Let go of what is too old or idle for too long, open what is missing; returns what seems to be leaked."""
        now, spare = self._now(), self._lasting - self.limits.min_size
        for slot in [*self.idle]:  # the longest unused first
            unused = now - slot.idle_since >= self.limits.max_idle
            if now >= slot.expires_at or self._lasting > self.limits.max_size or (unused and spare > 0):
                spare -= 1
                self.idle.remove(slot)
                self._retire(slot)
        self.warm()
        self._match()
        leaked = [slot for slot in self.borrowed if now - slot.borrowed_at >= self.limits.leak_after]
        found = [slot for slot in leaked if not slot.reported]
        for slot in found:
            slot.reported = True
        return found

    def clear(self) -> int:
        """Close all idle ones, and those in use when they are given back; returns how many are closed at once."""
        idle, self.idle = self.idle, []
        for slot in self.slots:
            slot.broken = True
        for slot in idle:
            self._retire(slot)
        return len(idle)

    def end(self, error: Exception) -> None:
        """Lend nothing any more."""
        self.ended = True
        self.clear()
        while self.waiting:
            self._answer(self.waiting.popleft(), error)

    @property
    def borrowed(self) -> list[Slot[T]]:
        """What is in use, the longest first."""
        return sorted((s for s in self.slots if s.state is State.IN_USE), key=lambda slot: slot.borrowed_at)

    def count(self) -> Counter[State]:
        """Slots by state."""
        return Counter(slot.state for slot in self.slots)

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _lasting(self) -> int:
        """Slots that are not about to go."""
        return sum(slot.state is not State.CLOSING for slot in self.slots)

    @property
    def _coming(self) -> int:
        """Slots being opened or checked; each will serve one who waits."""
        return sum(slot.state in {State.OPENING, State.CHECKING} for slot in self.slots)

    def _is_stale(self, slot: Slot[T], now: float) -> bool:
        return self._checks and now - slot.idle_since > self.limits.check_after

    def _is_ready(self, slot: Slot[T], now: float) -> None:
        if slot.broken or self.ended:  # the pool was cleared or ended while it was opened or checked
            self._retire(slot)
        else:
            slot.state = IDLE
            slot.idle_since = now
            self.idle.append(slot)
        if self.waiting:
            self._match()

    def _match(self) -> None:
        """Serve whoever can be served, and order what the others wait for."""
        if not self.waiting:
            return
        now, checking = self._now(), sum(slot.state is State.CHECKING for slot in self.slots)
        while self.idle and len(self.waiting) > checking:
            slot = self.idle.pop()
            if now >= slot.expires_at:
                self._retire(slot)
            elif self._is_stale(slot, now):
                slot.state = State.CHECKING
                checking += 1
                self._keeper.check(slot)
            else:
                waiter = self.waiting.popleft()
                waiter.slot = slot
                self._lend(slot, waiter.where, now)
                waiter.wake()
        for _ in range(min(len(self.waiting) - self._coming, self.limits.max_size - len(self.slots))):
            self._open()

    def _lend(self, slot: Slot[T], where: Where | None, now: float) -> None:
        slot.state = IN_USE
        slot.where = where
        slot.borrowed_at = now
        slot.reported = False

    def _open(self) -> None:
        slot: Slot[T] = Slot()
        self.slots.add(slot)
        self._keeper.open(slot)

    def _retire(self, slot: Slot[T]) -> None:
        slot.state = State.CLOSING
        self._keeper.close(slot)

    def _answer(self, waiter: Waiter[T], error: Exception) -> None:
        waiter.error = error
        waiter.wake()
