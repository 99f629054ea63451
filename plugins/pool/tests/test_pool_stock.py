"""The algorithm alone: a state machine in which everything happens in any order, and the keeper answers late."""

from __future__ import annotations

from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plughost_pool import Limits
from plughost_pool._stock import Slot, State, Stock, Waiter

BASE = Limits(
    min_size=1,
    max_size=3,
    max_waiting=9,
    timeout=5,
    max_idle=50,
    max_lifetime=200,
    check_after=20,
    leak_after=100,
    io_timeout=5,
    close_timeout=5,
)


def limits(**changes: int) -> Limits:
    from dataclasses import replace

    return replace(BASE, **changes)


class Orders:
    """A keeper that does what it is told when the test says so."""

    def __init__(self) -> None:
        self.given: list[tuple[str, Slot[int]]] = []

    def open(self, slot: Slot[int]) -> None:
        self.given.append(("open", slot))

    def check(self, slot: Slot[int]) -> None:
        self.given.append(("check", slot))

    def close(self, slot: Slot[int]) -> None:
        self.given.append(("close", slot))


class StockMachine(RuleBasedStateMachine):
    """Borrowers come, give up, return what they have, broken or not; resources open, fail, pass and fail checks."""

    @initialize(minimum=st.integers(0, 3), most=st.integers(1, 4))
    def start(self, minimum: int, most: int) -> None:
        self.now = 0.0
        self.orders = Orders()
        self.stock: Stock[int] = Stock(
            limits(min_size=minimum, max_size=most), self.orders, lambda: self.now, lambda: 0.0, checks=True
        )
        self.queue: list[Waiter[int]] = []
        self.lent: list[Slot[int]] = []
        self.verified: dict[Slot[int], float] = {}
        self.most_allowed = most
        self.stock.warm()

    def woken(self, waiter: Waiter[int]) -> None:
        if waiter.slot is None and waiter.error is None:
            return  # gave up
        assert waiter is self.queue.pop(0), "somebody was served before those who asked earlier"
        if waiter.slot is not None:
            self.receive(waiter.slot)

    def receive(self, slot: Slot[int]) -> None:
        assert slot not in self.lent, "lent twice"
        assert slot.state is State.IN_USE
        assert self.now < slot.expires_at, "lent after its lifetime"
        assert self.now - self.verified[slot] <= BASE.check_after, "lent unchecked after long idleness"
        assert not slot.broken
        self.lent.append(slot)

    @rule()
    def borrow(self) -> None:
        slot = self.stock.take(None)
        if slot is not None:
            assert not self.queue, "overtook those who wait"
            self.receive(slot)
            return
        waiter: Waiter[int] = Waiter(None, lambda: None)
        waiter.wake = partial(self.woken, waiter)
        self.queue.append(waiter)
        self.stock.ask(waiter)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiter = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.stock.give_up(waiter)

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), broken=st.booleans())
    def give_back(self, data: st.DataObject, *, broken: bool) -> None:
        slot = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        slot.broken = slot.broken or broken
        self.verified[slot] = self.now
        self.stock.give_back(slot)
        assert not slot.broken or slot.state is State.CLOSING

    @precondition(lambda self: self.orders.given)
    @rule(data=st.data(), good=st.booleans())
    def report(self, data: st.DataObject, *, good: bool) -> None:
        order, slot = self.orders.given.pop(data.draw(st.integers(0, len(self.orders.given) - 1)))
        self.verified[slot] = self.now
        if order == "open" and good:
            slot.value = 1
            self.stock.opened(slot)
        elif order == "open":
            self.stock.failed(slot, OSError("no"))
        elif order == "check":
            self.stock.checked(slot, good=good)
        else:
            self.stock.closed(slot)

    @rule(seconds=st.sampled_from([1, 15, 40, 150]))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        self.stock.sweep()
        assert all(self.now < slot.expires_at for slot in self.stock.idle)
        assert self.stock._lasting >= min(self.stock.limits.min_size, self.stock.limits.max_size) or (
            len(self.stock.slots) >= self.stock.limits.max_size
        )

    @rule()
    def clear(self) -> None:
        self.stock.clear()
        assert not self.stock.idle

    @rule(minimum=st.integers(0, 3), most=st.integers(1, 4))
    def resize(self, minimum: int, most: int) -> None:
        self.stock.limits = limits(min_size=minimum, max_size=most)
        self.most_allowed = max(most, len(self.stock.slots))
        self.stock.sweep()

    @invariant()
    def never_too_many(self) -> None:
        assert len(self.stock.slots) <= self.most_allowed
        self.most_allowed = max(self.stock.limits.max_size, len(self.stock.slots))

    @invariant()
    def each_slot_is_in_one_place(self) -> None:
        by_state = {state: {s for s in self.stock.slots if s.state is state} for state in State}
        assert by_state[State.IN_USE] == set(self.lent)
        assert by_state[State.IDLE] == set(self.stock.idle)
        assert len(self.stock.idle) == len(set(self.stock.idle))
        ordered = {"open": State.OPENING, "check": State.CHECKING, "close": State.CLOSING}
        for order, state in ordered.items():
            assert sorted(map(id, by_state[state])) == sorted(id(s) for name, s in self.orders.given if name == order)
        assert not by_state[State.CLOSED]

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """Each who waits has something coming, or all places are taken."""
        assert [*self.stock.waiting] == self.queue
        if len(self.queue) > self.stock._coming:
            assert not self.stock.idle
            assert len(self.stock.slots) >= self.stock.limits.max_size

    def teardown(self) -> None:
        """Ended, the pool answers who waits, and closes everything once it is given back."""
        if not hasattr(self, "stock"):
            return
        self.stock.end(RuntimeError("closed"))
        assert not self.queue
        for slot in self.lent:
            self.stock.give_back(slot)
        self.lent = []
        while self.orders.given:
            order, slot = self.orders.given.pop()
            self.verified[slot] = self.now
            if order == "open":
                self.stock.opened(slot)
            elif order == "check":
                self.stock.checked(slot, good=True)
            else:
                self.stock.closed(slot)
        assert not self.stock.slots


StockMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestStockMachine = StockMachine.TestCase
