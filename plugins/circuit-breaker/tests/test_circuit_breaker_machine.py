"""The breaker under any sequence of calls, results, cancellations, time, operators and news, held to its rules."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from plughost_circuit_breaker import Breaker, Mode, Permit, Policy, State

ALLOWED = {
    State.CLOSED: {State.OPEN},
    State.OPEN: {State.HALF_OPEN},
    State.HALF_OPEN: {State.OPEN, State.RECOVERING, State.CLOSED},
    State.RECOVERING: {State.OPEN, State.CLOSED},
}
"""What the machine may do by itself."""


class BreakerMachine(RuleBasedStateMachine):
    permits = Bundle("permits")

    @initialize(
        window_calls=st.sampled_from([None, 8]),
        minimum=st.integers(1, 6),
        probes=st.integers(1, 4),
        ramp=st.sampled_from([0.0, 10.0]),
        failure_rate=st.sampled_from([0.1, 0.5, 1.0]),
        slow_rate=st.sampled_from([0.3, 1.0]),
    )
    def begin(
        self, *, window_calls: int | None, minimum: int, probes: int, ramp: float, failure_rate: float, slow_rate: float
    ) -> None:
        self.policy = Policy(
            window_calls=window_calls,
            minimum_calls=minimum,
            probes=probes,
            ramp=ramp,
            failure_rate=failure_rate,
            slow_rate=slow_rate,
        )
        self.now = 1000.0
        self.chance = 0.5
        self.ordered = False  # whether an operator is at it
        self.state = State.CLOSED
        self.eras = 0
        self.in_this_era: set[Permit] = set()
        self.breaker = Breaker(("notes", None), self.policy, random=lambda: self.chance, listener=self.moved)

    def moved(self, breaker: Breaker, now: float) -> None:
        assert now == self.now
        assert breaker.since == now
        assert breaker.reason
        if not self.ordered:
            assert breaker.state in ALLOWED[self.state], f"{self.state} became {breaker.state}"
        if breaker.state is State.OPEN and breaker.until < math.inf and not self.ordered:
            wait = min(self.policy.open * 2 ** (breaker.trips - 1), self.policy.open_max)
            assert 0.8 * wait - 1e-6 <= breaker.until - now <= 1.2 * wait + 1e-6
        if not (self.state is State.RECOVERING and breaker.state is State.CLOSED):
            self.in_this_era.clear()
        self.state = breaker.state

    # -- calls --------------------------------------------------------------------------------------------------------

    @rule(target=permits, count=st.integers(1, 12))
    def call(self, count: int) -> object:
        """Several calls at once: what its state allows is let through."""
        given = [self.breaker.admit(self.now) for _ in range(count)]
        got = [permit for permit in given if permit is not None]
        self.in_this_era.update(got)
        if self.breaker.mode in {Mode.DISABLED, Mode.OBSERVE}:
            assert len(got) == count
        elif self.breaker.mode is Mode.FORCED_OPEN:
            assert not got
        elif self.state is State.CLOSED:
            assert len(got) == count
        elif self.state is State.HALF_OPEN:
            assert len(got) <= self.policy.probes
        elif self.state is State.OPEN:
            assert not got
            wait = self.breaker.retry_after(self.now)
            assert wait is not None
            assert wait > 0
        return multiple(*got)

    @rule(permit=consumes(permits), failed=st.booleans(), slow=st.booleans())
    def ends(self, *, permit: Permit, failed: bool, slow: bool) -> None:
        """A result of an older era, or of a probe that was given up, changes nothing."""
        before = (self.breaker.state, self.breaker.counts(self.now))
        fresh = permit in self.in_this_era
        if permit is not self.breaker._pass:  # which all calls share
            self.in_this_era.discard(permit)
        self.breaker.record(permit, self.now, failed=failed, slow=slow)
        if not fresh:
            assert (self.breaker.state, self.breaker.counts(self.now)) == before

    @rule(permit=consumes(permits))
    def is_cancelled(self, permit: Permit) -> None:
        """A cancelled call is neither counted nor does it move the breaker."""
        before = (self.breaker.state, self.breaker.counts(self.now))
        self.breaker.release(permit)
        assert (self.breaker.state, self.breaker.counts(self.now)) == before

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0, 9.0, 13.0, 61.0, 150.0]), chance=st.floats(0, 1))
    def time_passes(self, seconds: float, chance: float) -> None:
        self.now += seconds
        self.chance = chance

    @rule(slow=st.booleans())
    def everything_fails(self, *, slow: bool) -> None:
        """A storm, so that the other states are reached often."""
        for _ in range(20):
            permit = self.breaker.admit(self.now)
            if permit is not None:
                self.breaker.record(permit, self.now, failed=True, slow=slow)

    @rule()
    def wait_is_over(self) -> None:
        if self.breaker.until < math.inf:
            self.now = max(self.now, self.breaker.until)

    # -- others -------------------------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(["force_open", "disable", "observe", "close", "reset"]))
    def operator(self, what: str) -> None:
        self.ordered = True
        getattr(self.breaker, what)(self.now)
        self.ordered = False

    @rule(what=st.sampled_from(["provider_up", "closed_elsewhere"]))
    def good_news(self, what: str) -> None:
        """Good news lets nothing through that is not a probe."""
        getattr(self.breaker, what)(self.now)

    @rule()
    def bad_news(self) -> None:
        self.breaker.provider_down(self.now, "gone")

    @rule(wait=st.floats(0.1, 30))
    def another_replica_opened(self, wait: float) -> None:
        self.ordered = True  # the wait is the other's
        self.breaker.open_elsewhere(self.now, wait)
        self.ordered = False

    @rule(minimum=st.integers(1, 6), window=st.sampled_from([30.0, 60.0]))
    def reconfigured(self, minimum: int, window: float) -> None:
        """A new policy moves nothing by itself."""
        before = (self.breaker.state, self.breaker.until, self.breaker.trips, self.breaker.mode)
        self.breaker.apply(Policy(minimum_calls=minimum, window=window, probes=self.policy.probes), self.now)
        self.policy = self.breaker._policy
        assert (self.breaker.state, self.breaker.until, self.breaker.trips, self.breaker.mode) == before

    # -- always -------------------------------------------------------------------------------------------------------

    @invariant()
    def is_never_pinned(self) -> None:
        """Left alone long enough, an automatic breaker lets a call through: no state waits for what may never come."""
        if not hasattr(self, "breaker") or self.breaker.mode is Mode.FORCED_OPEN:
            return
        later = self.now + 1000.0
        twin = Breaker(self.breaker.key, self.policy, random=lambda: 0.5, listener=lambda *_: None)
        for slot in set(Breaker.__slots__) - {"__weakref__"}:
            value = getattr(self.breaker, slot)
            setattr(twin, slot, set(value) if isinstance(value, set) else value)
        twin._listener = lambda *_: None
        probed, twin._probed = twin._probed, type(twin._probed)(twin._probed._ring.maxlen)  # type: ignore[attr-defined,call-arg]  # a copy
        for item in probed.slices(self.now):
            twin._probed.add(item)
        assert twin.admit(later) or twin.admit(later + 1000.0)

    @invariant()
    def lets_few_through_while_half_open(self) -> None:
        if hasattr(self, "breaker") and self.breaker.state is State.HALF_OPEN:
            assert len(self.breaker._out) + self.breaker.counts(self.now)[0] <= self.breaker._limit

    @invariant()
    def says_what_time_makes_of_it(self) -> None:
        if hasattr(self, "breaker"):
            state = self.breaker.state_at(self.now)
            assert state in {self.breaker.state, State.HALF_OPEN, State.CLOSED}


BreakerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase
