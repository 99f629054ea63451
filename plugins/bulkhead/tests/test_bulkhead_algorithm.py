"""The algorithm alone: a state machine against what must always hold, and the fairness of grants."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from plughost_bulkhead._bulkhead import IDLE_LANES, Bound, Bulkhead, Lane, Verdict, Waiter

Caller = tuple[str, str]
"""Tenant, provider."""
TENANTS = st.sampled_from(["a", "b", "c"])
PROVIDERS = st.sampled_from(["p", "q"])


def ignore() -> None:
    """Nobody has to be woken here."""


def lane_of(bulkhead: Bulkhead, tenant: str, provider: str) -> Lane:
    """Two rules: a slot of the provider, and one of the tenant."""
    return bulkhead.lane((tenant, provider)) or bulkhead.open((tenant, provider), tenant, [provider, tenant])


def single(slots: int, queue: int = 1000, **weights: float) -> Bulkhead:
    return Bulkhead([Bound(slots, queue)], weights=weights)


def only(bulkhead: Bulkhead, tenant: str) -> Lane:
    return bulkhead.lane(tenant) or bulkhead.open(tenant, tenant, ["p"])


def queued(bulkhead: Bulkhead, lane: Lane) -> Waiter:
    waiter = bulkhead.wait(lane, ignore)
    assert waiter is not None
    return waiter


class BulkheadMachine(RuleBasedStateMachine):
    """Calls of three tenants at two providers come, wait, give up, and end in any order; bounds change meanwhile."""

    @initialize(slots=st.tuples(st.integers(1, 4), st.integers(1, 4)), queue=st.integers(0, 4))
    def start(self, slots: tuple[int, int], queue: int) -> None:
        self.bounds = [Bound(slots[0], queue), Bound(slots[1], queue)]
        self.bulkhead = Bulkhead(self.bounds)
        self.flying: list[Caller] = []
        self.waiting: list[tuple[Caller, Waiter]] = []
        self.may_exceed: Counter[tuple[int, str]] = Counter()

    @rule(tenant=TENANTS, provider=PROVIDERS)
    def come(self, tenant: str, provider: str) -> None:
        lane = lane_of(self.bulkhead, tenant, provider)
        if self.bulkhead.enter(lane):
            self.flying.append((tenant, provider))
            return
        full = [s.compartment for s in lane.shares if s.compartment.waiting >= s.compartment.bound.queue]
        before = {id(room): room.waiting for room in full}
        waiter = self.bulkhead.wait(lane, ignore)
        if waiter is None:
            assert full, "turned away although no queue is full"
        else:
            self.waiting.append(((tenant, provider), waiter))
            for room in full:
                assert room.waiting <= before[id(room)], "a full queue grew"
        self.settle()

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.flying:
            caller = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
            self.bulkhead.leave(lane_of(self.bulkhead, *caller), 1.0)
            self.settle()

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.waiting:
            _, waiter = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
            self.bulkhead.withdraw(waiter)
            assert waiter.verdict is Verdict.EXPIRED

    @rule(slots=st.tuples(st.integers(1, 4), st.integers(1, 4)), queue=st.integers(0, 4))
    def change(self, slots: tuple[int, int], queue: int) -> None:
        self.bounds = [Bound(slots[0], queue), Bound(slots[1], queue)]
        self.bulkhead.rebound(self.bounds)
        self.settle()
        self.may_exceed = self.usage()

    @rule()
    def sweep(self) -> None:
        self.bulkhead._sweep()

    def settle(self) -> None:
        """Move those who were admitted; forget those whose place was taken."""
        for caller, waiter in self.waiting:
            if waiter.verdict is Verdict.ADMITTED:
                self.flying.append(caller)
        self.waiting = [(caller, waiter) for caller, waiter in self.waiting if waiter.verdict is None]

    def usage(self) -> Counter[tuple[int, str]]:
        by_provider = Counter((0, provider) for _, provider in self.flying)
        return by_provider + Counter((1, tenant) for tenant, _ in self.flying)

    @invariant()
    def counts_are_exact(self) -> None:
        used = self.usage()
        assert {(item.rule, item.key): item.in_flight for item in self.bulkhead if item.in_flight} == used
        waits = Counter((0, caller[1]) for caller, _ in self.waiting)
        waits += Counter((1, caller[0]) for caller, _ in self.waiting)
        assert {(item.rule, item.key): item.waiting for item in self.bulkhead if item.waiting} == waits
        for item in self.bulkhead:
            assert item.in_flight == sum(share.in_flight for share in item.shares.values())
            assert item.waiting == sum(share.waiting for share in item.shares.values())

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        """Unless it was lowered below what was in flight: then it only falls."""
        used = self.usage()
        for key, count in used.items():
            assert count <= max(self.bounds[key[0]].slots, self.may_exceed[key])
        self.may_exceed = Counter({key: count for key, count in used.items() if count > self.bounds[key[0]].slots})

    @invariant()
    def nobody_waits_who_could_go(self) -> None:
        """A slot is never free while somebody waits for nothing else."""
        for _, waiter in self.waiting:
            assert not waiter.lane.has_room


BulkheadMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestBulkheadMachine = BulkheadMachine.TestCase


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(2, 6))
def test_no_tenant_starves_another(data: st.DataObject, slots: int, tenants: int) -> None:
    """With every tenant always waiting, the slots that two of them hold get within one of each other, and stay there.

    Whose calls end is the adversary's choice, so that some tenants' calls last for ever.
    """
    bulkhead = single(slots)
    flying = ["t0"] * slots  # one has taken all before the others came
    for _ in range(slots):
        assert bulkhead.enter(only(bulkhead, "t0"))
    waiters = {name: queued(bulkhead, only(bulkhead, name)) for name in (f"t{n}" for n in range(tenants))}
    ended = 0
    while ended < slots + 30:
        most = max(Counter(flying).values())
        choice = data.draw(st.integers(0, len(flying) - 1)) if ended >= slots else flying.index("t0") if most > 1 else 0
        bulkhead.leave(only(bulkhead, flying.pop(choice)))
        ended += 1
        (name,) = (name for name, waiter in waiters.items() if waiter.verdict is Verdict.ADMITTED)
        flying.append(name)
        waiters[name] = queued(bulkhead, only(bulkhead, name))
        held = Counter(flying)
        if ended >= slots:
            assert max(held.values()) - min(held[name] for name in waiters) <= 1, held


def test_equals_take_turns() -> None:
    """Tenants that hold nothing are served in turn, however many calls each has waiting."""
    bulkhead = single(1)
    bulkhead.enter(only(bulkhead, "x"))
    waiters = [(name, queued(bulkhead, only(bulkhead, name))) for name in "aaaabbc"]
    order, last = "", "x"
    while any(waiter.verdict is None for _, waiter in waiters):
        bulkhead.leave(only(bulkhead, last))
        (last,) = {name for name, waiter in waiters if waiter.verdict is Verdict.ADMITTED}
        waiters = [(name, waiter) for name, waiter in waiters if waiter.verdict is None]
        order += last
    assert order == "abcabaa"


def test_slow_calls_do_not_pile_up() -> None:
    """A tenant whose calls never end holds its share of the slots, not all of them."""
    bulkhead = single(8)
    for _ in range(8):
        bulkhead.enter(only(bulkhead, "quick"))
    slow = [queued(bulkhead, only(bulkhead, "slow")) for _ in range(8)]
    for _ in range(100):
        queued(bulkhead, only(bulkhead, "quick"))
    for _ in range(100):
        bulkhead.leave(only(bulkhead, "quick"))
    assert sum(waiter.verdict is Verdict.ADMITTED for waiter in slow) == 4


def test_weights() -> None:
    """A tenant of weight 3 holds three times the slots of another."""
    bulkhead = single(8, gold=3)
    for _ in range(8):
        bulkhead.enter(only(bulkhead, "x"))
    for name in ("gold", "tin"):
        for _ in range(10):
            queued(bulkhead, only(bulkhead, name))
    for _ in range(8):
        bulkhead.leave(only(bulkhead, "x"))
    assert (only(bulkhead, "gold").in_flight, only(bulkhead, "tin").in_flight) == (6, 2)


def test_full_queue_is_shared() -> None:
    """A newcomer takes the place of the last call of the tenant that fills the queue; that tenant's next is refused."""
    bulkhead = single(1, queue=3)
    bulkhead.enter(only(bulkhead, "x"))
    greedy = [queued(bulkhead, only(bulkhead, "greedy")) for _ in range(3)]
    assert bulkhead.wait(only(bulkhead, "greedy"), ignore) is None
    queued(bulkhead, only(bulkhead, "modest"))
    assert [waiter.verdict for waiter in greedy] == [None, None, Verdict.CROWDED_OUT]
    assert bulkhead.wait(only(bulkhead, "modest"), ignore) is None, "it would have as many as the other then"


def test_all_slots_or_none() -> None:
    """G4: a call that finds its tenant's slots taken takes none of the provider's; another tenant gets through."""
    bulkhead = Bulkhead([Bound(2, 5), Bound(1, 5)])
    assert bulkhead.enter(lane_of(bulkhead, "a", "p"))
    assert not bulkhead.enter(lane_of(bulkhead, "a", "p"))
    waiter = queued(bulkhead, lane_of(bulkhead, "a", "p"))
    assert bulkhead.enter(lane_of(bulkhead, "b", "p"))
    bulkhead.leave(lane_of(bulkhead, "a", "p"))
    assert waiter.verdict is Verdict.ADMITTED


def test_estimate() -> None:
    """How long a newcomer would wait: what calls take, times who is before, by the slots. Unknown before any ended."""
    bulkhead = single(2)
    lane = only(bulkhead, "a")
    bulkhead.enter(lane)
    bulkhead.enter(lane)
    (room,) = bulkhead
    assert room.estimate() is None
    bulkhead.leave(lane, 4.0)
    bulkhead.enter(lane)
    for _ in range(3):
        queued(bulkhead, lane)
    assert room.estimate() == 4.0 * 4 / 2


def test_memory_is_bounded() -> None:
    """Callers that never come again are forgotten; those in flight are not."""
    bulkhead = Bulkhead([Bound(5, 5), Bound(1, 1)])
    bulkhead.enter(lane_of(bulkhead, "stays", "p"))
    for number in range(10 * IDLE_LANES):
        lane = lane_of(bulkhead, f"t{number}", "q")
        assert bulkhead.enter(lane)
        bulkhead.leave(lane)
    assert len(bulkhead) <= IDLE_LANES + 1
    assert len(bulkhead._compartments) <= IDLE_LANES + 3
    assert lane_of(bulkhead, "stays", "p").in_flight == 1
