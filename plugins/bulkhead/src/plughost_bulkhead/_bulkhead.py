"""The algorithm: who may go, who waits for whom, who is turned away. Knows neither MCP nor an event loop.

A caller holds one slot in each compartment that it belongs to, or none: it waits until all of them have room at once,
so that nobody keeps a slot while waiting for another one, and no two callers can wait for each other (G4).

A freed slot goes to the party that holds the smallest share of what it waits for (dominant resource fairness, Ghodsi
et al., NSDI 2011); among equals to the one that got none for the longest time. Taking turns would be unfair here: a
party whose calls last a minute would hold nearly all slots beside one whose calls last a second. Within one party, and
one set of compartments, it is first come first served.

A full queue is shared as fairly: a newcomer takes the place of the last one of the party with the most in it (longest
queue drop, Suter et al., INFOCOM 1998), or is turned away if that party is its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

Party: TypeAlias = Hashable
"""Those who are treated fairly among each other: a tenant, or who comes without one."""
SMOOTHING = 0.2
"""Weight of the newest call in the mean time that calls hold a slot."""
IDLE_LANES = 1024
"""Lanes kept for the next call of the same caller; beyond, those that nobody is in are dropped."""


class Verdict(Enum):
    """What became of one who waited."""

    ADMITTED = "admitted"
    EXPIRED = "expired"
    CROWDED_OUT = "crowded out"


@dataclass(frozen=True, slots=True)
class Bound:
    """What a compartment holds: calls in flight, and calls that wait."""

    slots: int
    queue: int


class Compartment:
    """A bounded number of calls in flight, and a bounded queue. `key` says whose, under the rule of that number."""

    def __init__(self, rule: int, key: Hashable, bound: Bound) -> None:
        self.rule = rule
        self.key = key
        self.bound = bound
        self.in_flight = 0
        self.waiting = 0
        self.shares: dict[Party, Share] = {}
        self.mean: float | None = None
        """Seconds that a call holds its slot, the latest ones weighing most."""

    def estimate(self) -> float | None:
        """Seconds until one more who waits would get a slot; `None` while nothing is known."""
        return None if self.mean is None else self.mean * (self.waiting + 1) / self.bound.slots

    @property
    def idle(self) -> bool:
        return not self.in_flight and not self.waiting


class Share:
    """What one party has of one compartment."""

    __slots__ = ("compartment", "in_flight", "lanes", "waiting", "weight")

    def __init__(self, compartment: Compartment, weight: float) -> None:
        self.compartment = compartment
        self.weight = weight
        self.in_flight = 0
        self.waiting = 0
        self.lanes: list[Lane] = []

    @property
    def of_slots(self) -> float:
        return self.in_flight / (self.compartment.bound.slots * self.weight)

    @property
    def of_queue(self) -> float:
        return self.waiting / self.weight

    @property
    def newest(self) -> Waiter:
        """The last of this party that came to wait."""
        return max((lane.waiting[-1] for lane in self.lanes if lane.waiting), key=lambda waiter: waiter.number)


class Lane:
    """The callers of one party that need the same compartments: all wait for the same, so one queue is enough."""

    __slots__ = ("in_flight", "served", "shares", "waiting")

    def __init__(self, shares: Sequence[Share]) -> None:
        self.shares = shares
        self.in_flight = 0
        self.served = 0
        """When it was served last, as a number that grows."""
        self.waiting: deque[Waiter] = deque()

    @property
    def has_room(self) -> bool:
        """Whether each of its compartments has a free slot."""
        for share in self.shares:
            compartment = share.compartment
            if compartment.in_flight >= compartment.bound.slots:
                return False
        return True

    @property
    def full(self) -> Compartment:
        """The first compartment without a free slot, or the first one."""
        rooms = [share.compartment for share in self.shares]
        return next((room for room in rooms if room.in_flight >= room.bound.slots), rooms[0])

    @property
    def claim(self) -> tuple[float, int]:
        """The smaller, the sooner it is its turn."""
        return max(share.of_slots for share in self.shares), self.served


class Waiter:
    """One who waits. `wake()` is called once there is a verdict."""

    __slots__ = ("lane", "number", "verdict", "wake")

    def __init__(self, lane: Lane, number: int, wake: Callable[[], None]) -> None:
        self.lane = lane
        self.number = number
        self.wake = wake
        self.verdict: Verdict | None = None


class Bulkhead:
    """Compartments, made as callers come that belong to them.

    `bounds` are those of each rule. A caller is in the compartments that its `keys` name, one for each rule, and
    belongs to a party, which has a weight (1, unless `weights` says otherwise).
    """

    def __init__(self, bounds: Sequence[Bound], *, weights: Mapping[str, float] | None = None) -> None:
        self._bounds = tuple(bounds)
        self._weights = weights or {}
        self._lanes: dict[Hashable, Lane] = {}
        self._compartments: dict[tuple[int, Hashable], Compartment] = {}
        self._count = 0
        self._sweep_at = IDLE_LANES

    # -- coming and going ---------------------------------------------------------------------------------------------

    def lane(self, caller: Hashable) -> Lane | None:
        """The lane of a caller that came before, by the name it was opened with."""
        return self._lanes.get(caller)

    def open(self, caller: Hashable, party: Party, keys: Sequence[Hashable]) -> Lane:
        """A new lane, under a name; its callers must enter it before the next one is opened."""
        if len(self._lanes) >= self._sweep_at:
            self._sweep()
        shares = [self._share(rule, key, party) for rule, key in enumerate(keys)]
        lane = self._lanes[caller] = Lane(shares)
        for share in shares:
            share.lanes.append(lane)
        return lane

    def enter(self, lane: Lane) -> bool:
        """Take a slot in each compartment of the lane, or in none; returns whether it did.

        Nobody who could go is overtaken: who waits does so because a compartment of theirs is full.
        """
        if not lane.has_room:
            return False
        self._take(lane)
        return True

    def leave(self, lane: Lane, held: float | None = None) -> None:
        """Give back the slots that one call held, to those who wait. `held`: for how many seconds, if that counts."""
        lane.in_flight -= 1
        contended = False
        for share in lane.shares:
            share.in_flight -= 1
            compartment = share.compartment
            compartment.in_flight -= 1
            if held is not None:
                mean = compartment.mean
                compartment.mean = held if mean is None else mean + SMOOTHING * (held - mean)
            contended = contended or compartment.waiting > 0
        if contended:
            self._admit(lane)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, lane: Lane, wake: Callable[[], None]) -> Waiter | None:
        """Join the queue of a lane without room. `None` if it is full, and no party has more in it than this one."""
        overfull = [share for share in lane.shares if share.compartment.waiting >= share.compartment.bound.queue]
        longest: list[Share] = []
        for share in overfull:
            found = max(share.compartment.shares.values(), key=lambda other: other.of_queue)
            if found.waiting == 0 or found.of_queue <= (share.waiting + 1) / share.weight:
                return None
            longest.append(found)
        for found in longest:
            if found.compartment.waiting >= found.compartment.bound.queue:  # else the one before was in both
                self._dismiss(found.newest, Verdict.CROWDED_OUT)
        self._count += 1
        waiter = Waiter(lane, self._count, wake)
        lane.waiting.append(waiter)
        self._waits(lane, 1)
        return waiter

    def withdraw(self, waiter: Waiter, verdict: Verdict = Verdict.EXPIRED) -> None:
        """Take one who waits no longer out of the queue; nothing, if there is a verdict already."""
        if waiter.verdict is None:
            self._dismiss(waiter, verdict)

    # -- rules --------------------------------------------------------------------------------------------------------

    def rebound(self, bounds: Sequence[Bound], *, weights: Mapping[str, float] | None = None) -> None:
        """Take other bounds for the same rules. What is in flight or waits stays; more room is given out at once."""
        self._bounds = tuple(bounds)
        self._weights = weights or {}
        for compartment in self._compartments.values():
            compartment.bound = self._bounds[compartment.rule]
            for party, share in compartment.shares.items():
                share.weight = self._weight(party)
        while (lane := _next(self._lanes.values())) is not None:
            self._admit_one(lane)

    def __iter__(self) -> Iterator[Compartment]:
        """The compartments that are kept; those that nobody is in are forgotten at some time."""
        return iter(self._compartments.values())

    def __len__(self) -> int:
        """How many lanes are kept."""
        return len(self._lanes)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _take(self, lane: Lane) -> None:
        lane.in_flight += 1
        for share in lane.shares:
            share.in_flight += 1
            share.compartment.in_flight += 1

    def _admit(self, freed: Lane) -> None:
        """Let in whoever has room in what `freed` gave back; that can be several, each in another compartment."""
        for share in freed.shares:
            compartment = share.compartment
            while compartment.waiting and compartment.in_flight < compartment.bound.slots:
                lanes = (lane for other in compartment.shares.values() if other.waiting for lane in other.lanes)
                if (lane := _next(lanes)) is None:
                    break
                self._admit_one(lane)

    def _admit_one(self, lane: Lane) -> None:
        self._take(lane)
        self._count += 1
        lane.served = self._count
        self._dismiss(lane.waiting[0], Verdict.ADMITTED)

    def _dismiss(self, waiter: Waiter, verdict: Verdict) -> None:
        lane = waiter.lane
        lane.waiting.remove(waiter)
        self._waits(lane, -1)
        waiter.verdict = verdict
        waiter.wake()

    @staticmethod
    def _waits(lane: Lane, change: int) -> None:
        for share in lane.shares:
            share.waiting += change
            share.compartment.waiting += change

    def _share(self, rule: int, key: Hashable, party: Party) -> Share:
        compartment = self._compartments.get((rule, key))
        if compartment is None:
            compartment = self._compartments[rule, key] = Compartment(rule, key, self._bounds[rule])
        share = compartment.shares.get(party)
        if share is None:
            share = compartment.shares[party] = Share(compartment, self._weight(party))
        return share

    def _weight(self, party: Party) -> float:
        return self._weights.get(party, 1.0) if isinstance(party, str) else 1.0

    def _sweep(self) -> None:
        """Forget lanes that nobody is in, and what only they belonged to."""
        for caller, lane in [*self._lanes.items()]:
            if not lane.in_flight and not lane.waiting:
                del self._lanes[caller]
                for share in lane.shares:
                    share.lanes.remove(lane)
        for place, compartment in [*self._compartments.items()]:
            compartment.shares = {party: share for party, share in compartment.shares.items() if share.lanes}
            if not compartment.shares:
                del self._compartments[place]
        self._sweep_at = max(IDLE_LANES, 2 * len(self._lanes))


def _next(lanes: Iterable[Lane]) -> Lane | None:
    """Whose turn it is, of those who wait and have room."""
    ready = [lane for lane in lanes if lane.waiting and lane.has_room]
    return min(ready, key=lambda lane: lane.claim, default=None)
