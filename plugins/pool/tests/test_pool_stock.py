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
    max_idle=45,
    max_lifetime=60,
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
        self.born: dict[Slot[int], float] = {}
        self.outdated: set[Slot[int]] = set()
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
        assert self.now < self.born[slot] + BASE.max_lifetime, "lent after its lifetime"
        assert self.now - self.verified[slot] <= BASE.check_after, "lent unchecked after long idleness"
        assert slot not in self.outdated, "lent although it was broken, or the pool cleared"
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
        self.verified[slot] = self.now
        if broken:
            slot.broken = True
            self.outdated.add(slot)
        self.stock.give_back(slot)
        if slot in self.outdated:
            assert slot.state is State.CLOSING

    @precondition(lambda self: self.orders.given)
    @rule()
    def report_all(self) -> None:
        """The keeper is quick."""
        while self.orders.given:
            self.reported(*self.orders.given.pop(0), good=True)

    @precondition(lambda self: self.orders.given)
    @rule(data=st.data(), good=st.booleans())
    def report(self, data: st.DataObject, *, good: bool) -> None:
        self.reported(*self.orders.given.pop(data.draw(st.integers(0, len(self.orders.given) - 1))), good=good)

    def reported(self, order: str, slot: Slot[int], *, good: bool) -> None:
        self.verified[slot] = self.now
        if order == "open" and good:
            slot.value = 1
            self.born[slot] = self.now
            self.stock.opened(slot)
        elif order == "open":
            self.stock.failed(slot, OSError("no"))
        elif order == "check":
            self.stock.checked(slot, good=good)
        else:
            self.stock.closed(slot)

    @rule(seconds=st.sampled_from([1, 15, 30]))
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
        self.outdated |= self.stock.slots
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


StockMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestStockMachine = StockMachine.TestCase


def waiter() -> Waiter[int]:
    return Waiter(None, lambda: None)


def test_failure_concerns_nobody_who_is_served_otherwise() -> None:
    """Who waits gets no error while another resource is on its way to them; who has nothing coming gets it."""
    orders = Orders()
    stock: Stock[int] = Stock(limits(min_size=0, max_size=2), orders, lambda: 0.0, lambda: 0.0, checks=False)
    first, second = waiter(), waiter()
    stock.ask(first)
    stock.ask(second)
    stock.give_up(first)
    (_, one), (_, other) = orders.given
    stock.failed(one, OSError("early"))
    early = second.error
    stock.failed(other, OSError("late"))
    assert (early, str(second.error)) == (None, "late")
    assert not stock.slots


def stocked(now: list[float], number: int) -> tuple[Stock[int], Orders]:
    """A stock with idle resources, opened at `now`."""
    orders = Orders()
    stock: Stock[int] = Stock(limits(min_size=number), orders, lambda: now[0], lambda: 0.0, checks=True)
    stock.warm()
    while orders.given:
        stock.opened(orders.given.pop()[1])
    return stock, orders


def test_expired_is_never_lent() -> None:
    """A resource that was used a moment ago is closed all the same, if it is too old, and another one opened."""
    now = [0.0]
    stock, orders = stocked(now, 1)
    slot = stock.take(None)
    assert slot is not None
    now[0] = 59.0
    stock.give_back(slot)
    now[0] = 61.0
    assert stock.take(None) is None
    asking = waiter()
    stock.ask(asking)
    assert asking.slot is None
    assert sorted(order for order, _ in orders.given) == ["close", "open"]


def test_one_check_for_one_borrower() -> None:
    """No more idle resources are checked than somebody waits for."""
    now = [0.0]
    stock, orders = stocked(now, 3)
    now[0] = 30.0
    stock.ask(waiter())
    assert [order for order, _ in orders.given] == ["check"]
    stock.ask(waiter())
    assert [order for order, _ in orders.given] == ["check", "check"]
