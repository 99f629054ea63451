"""The algorithm alone, in the situations that resilience4j and Polly describe. Time is a number."""

from __future__ import annotations

import math
import traceback
from typing import Any

import pytest
from plughost_circuit_breaker import Breaker, Mode, Permit, Policy, State
from plughost_circuit_breaker._board import Blocked, Board, Fault


class Bench:
    """A breaker, its time, and how calls on it end."""

    def __init__(self, **policy: Any) -> None:
        self.now = 1000.0
        self.chance = 0.5
        self.moves: list[State] = []
        policy = {"ramp": 0.0, **policy}
        self.breaker = Breaker(("notes", None), Policy(**policy), random=lambda: self.chance, listener=self.moved)

    def moved(self, breaker: Breaker, now: float) -> None:
        self.moves.append(breaker.state)

    def admit(self) -> Permit | None:
        return self.breaker.admit(self.now)

    def start(self) -> Permit:
        permit = self.admit()
        assert permit is not None
        return permit

    def end(self, permit: Permit, *, failed: bool = False, slow: bool = False) -> None:
        self.breaker.record(permit, self.now, failed=failed, slow=slow)

    def calls(self, count: int, *, failed: bool = False, slow: bool = False) -> None:
        for _ in range(count):
            self.end(self.start(), failed=failed, slow=slow)

    def opened(self) -> Bench:
        """Open, with its wait over."""
        self.calls(10, failed=True)
        self.now = self.breaker.until
        return self

    def state(self) -> State:
        return self.breaker.state_at(self.now)


# -- opening ----------------------------------------------------------------------------------------------------------


def test_nothing_is_decided_below_the_minimum() -> None:
    """Nine failures of nine are no reason yet; the tenth call decides, even if it is a success."""
    bench = Bench()
    bench.calls(9, failed=True)
    assert bench.state() is State.CLOSED
    bench.calls(1)
    assert bench.state() is State.OPEN
    assert bench.breaker.reason == "9 of 10 calls failed"


@pytest.mark.parametrize("rate", [0.04, 0.28, 0.52, 0.56, 1.0])
def test_rate_itself_is_too_much(rate: float) -> None:
    """A breaker opens at its rate exactly, also where floating point would be a hair above; and not one call below."""
    for failures, state in ((round(rate * 25) - 1, State.CLOSED), (round(rate * 25), State.OPEN)):
        bench = Bench(failure_rate=rate, minimum_calls=25)
        bench.calls(25 - failures)
        bench.calls(failures, failed=True)
        assert bench.state() is state


def test_failures_one_after_the_other_are_not_what_counts() -> None:
    """Five failures in a row among many successes keep it closed: the rate counts."""
    bench = Bench()
    bench.calls(20)
    bench.calls(5, failed=True)
    assert bench.state() is State.CLOSED


def test_slow_calls_open_too() -> None:
    """Calls that succeed but are slow open it at their own rate."""
    bench = Bench()
    bench.calls(2)
    bench.calls(7, slow=True)
    assert bench.state() is State.CLOSED
    bench.calls(1, slow=True)
    assert bench.breaker.reason == "8 of 10 calls were slow"


def test_failures_that_are_slow_count_as_slow_too() -> None:
    """Some timeouts and some slow answers are together as bad as they are."""
    bench = Bench()
    bench.calls(2)
    bench.calls(4, failed=True, slow=True)
    bench.calls(4, slow=True)
    assert bench.state() is State.OPEN


def test_old_failures_are_forgotten() -> None:
    """What is older than the window does not count."""
    bench = Bench()
    bench.calls(9, failed=True)
    bench.now += 61
    bench.calls(9)
    bench.calls(1, failed=True)
    assert bench.state() is State.CLOSED


def test_count_window_forgets_by_number() -> None:
    """A window over calls keeps its failures however much time goes by, until as many calls came after."""
    bench = Bench(window_calls=10, failure_rate=0.6)
    bench.calls(5, failed=True)
    bench.now += 86_400
    bench.calls(4)
    bench.calls(1, failed=True)
    assert bench.state() is State.OPEN


# -- the wait ---------------------------------------------------------------------------------------------------------


def test_open_lets_nothing_through_and_says_for_how_long() -> None:
    """An open breaker refuses until its wait is over, and says how much of it is left."""
    bench = Bench()
    bench.calls(10, failed=True)
    bench.now += 4
    assert bench.admit() is None
    assert bench.breaker.retry_after(bench.now) == pytest.approx(6)
    bench.now += 6
    assert bench.admit() is not None


def test_wait_doubles_up_to_its_cap() -> None:
    """Each time that the probes fail it waits twice as long, up to `open_max`."""
    bench = Bench().opened()
    waits = []
    for _ in range(6):
        bench.calls(2, failed=True)
        waits.append(bench.breaker.until - bench.now)
        bench.now = bench.breaker.until
    assert waits == pytest.approx([20, 40, 80, 120, 120, 120])


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 8.0), (1.0, 12.0)])
def test_wait_has_jitter(chance: float, wait: float) -> None:
    """A wait is a fifth shorter at least, a fifth longer at most."""
    bench = Bench()
    bench.chance = chance
    bench.calls(10, failed=True)
    assert bench.breaker.until - bench.now == pytest.approx(wait)


def test_wait_survives_any_number_of_trips() -> None:
    """The thousandth trip in a row waits as long as the tenth."""
    assert Policy().wait(10_000, 0.5) == 120


def test_stable_recovery_forgets_the_waits() -> None:
    """A breaker that was closed for `open_max` begins with the first wait again; one that was not goes on doubling."""
    for closed, wait in ((119, 20), (121, 10)):
        bench = Bench().opened()
        bench.calls(2)
        assert bench.state() is State.CLOSED
        bench.now += closed
        bench.calls(10, failed=True)
        assert bench.breaker.until - bench.now == pytest.approx(wait)


# -- probes -----------------------------------------------------------------------------------------------------------


def test_fifty_callers_after_the_wait() -> None:
    """Of fifty callers that come when the wait is over, as many as there are probes get through."""
    bench = Bench().opened()
    assert sum(bench.admit() is not None for _ in range(50)) == 3
    assert bench.breaker.retry_after(bench.now) == 1


def test_probes_decide_as_soon_as_they_can() -> None:
    """Two good ones of three close it, and two bad ones open it, without waiting for the third."""
    for failed, state in ((False, State.CLOSED), (True, State.OPEN)):
        bench = Bench().opened()
        bench.calls(1, failed=True)
        bench.calls(1, failed=failed)
        bench.calls(1, failed=failed) if bench.state() is State.HALF_OPEN else None
        assert bench.state() is state
    bench = Bench().opened()
    bench.calls(2)
    assert bench.state() is State.CLOSED


def test_slow_probes_open_it() -> None:
    """Probes that are slow decide by the rate of slow calls."""
    bench = Bench().opened()
    bench.calls(3, slow=True)
    assert bench.moves[-2:] == [State.HALF_OPEN, State.OPEN]
    assert bench.breaker.reason == "3 of 3 probes were slow"


def test_cancelled_probe_gives_its_permit_back() -> None:
    """Probes that are cancelled, however many, keep no place and decide nothing."""
    bench = Bench().opened()
    for _ in range(20):
        bench.breaker.release(bench.start())
    assert bench.state() is State.HALF_OPEN
    bench.calls(2)
    assert bench.state() is State.CLOSED


def test_lost_probes_pin_nothing() -> None:
    """Probes that never come back have failed when their time is over: it opens, waits longer, and probes again."""
    bench = Bench().opened()
    for _ in range(3):
        bench.start()
    assert bench.admit() is None
    bench.now += 60
    assert bench.admit() is None
    assert bench.state() is State.OPEN
    assert bench.breaker.until - bench.now == pytest.approx(20)
    bench.now = bench.breaker.until
    bench.calls(2)
    assert bench.state() is State.CLOSED


def test_late_probe_finds_the_others_lost() -> None:
    """A probe that comes back when the others were given up is too late, and opens nothing twice."""
    bench = Bench(window_calls=10).opened()
    late, *_ = [bench.start() for _ in range(3)]
    bench.now += 60
    bench.end(late, failed=True)
    assert (bench.state(), bench.breaker.trips) == (State.OPEN, 2)


def test_probes_of_an_older_era_take_no_place() -> None:
    """Probes that are still under way when it opened again leave all places to the next ones."""
    bench = Bench().opened()
    for _ in range(3):
        bench.start()
    bench.breaker.provider_down(bench.now, "gone")
    bench.now = bench.breaker.until
    assert sum(bench.admit() is not None for _ in range(50)) == 3


def test_probes_that_came_back_keep_their_places() -> None:
    """A failed probe that decided nothing is one of the three: two more get through, not three."""
    bench = Bench().opened()
    bench.calls(1, failed=True)
    assert sum(bench.admit() is not None for _ in range(50)) == 2


def test_one_lost_probe_is_one_failure() -> None:
    """One of three that never comes back is outvoted by the other two."""
    bench = Bench().opened()
    bench.start()
    bench.now += 60
    bench.calls(2)
    assert bench.state() is State.CLOSED


def test_probe_that_was_given_up_counts_once() -> None:
    """What a given-up probe brings after all changes nothing."""
    bench = Bench(probes=4).opened()
    lost = bench.start()
    bench.now += 60
    kept = bench.start()
    bench.end(lost, failed=True)
    assert bench.breaker.counts(bench.now) == (1, 1, 1)
    bench.end(kept)
    assert bench.breaker.counts(bench.now) == (2, 1, 1)


def test_late_results_of_an_older_era_are_dropped() -> None:
    """Failures of calls that began before it opened neither open it again nor spoil its new window."""
    bench = Bench()
    late = [bench.start() for _ in range(30)]
    bench.opened()
    for permit in late[:10]:
        bench.end(permit, failed=True)
    bench.calls(2)
    assert bench.state() is State.CLOSED
    for permit in late[10:]:
        bench.end(permit, failed=True)
    assert bench.state() is State.CLOSED
    assert bench.breaker.counts(bench.now) == (0, 0, 0)


# -- recovery ---------------------------------------------------------------------------------------------------------


def recovering() -> Bench:
    bench = Bench(ramp=10.0).opened()
    bench.calls(2)
    assert bench.state() is State.RECOVERING
    return bench


def test_recovery_is_ramped() -> None:
    """While it recovers it lets `probes` calls through at a time, and one more for each good one."""
    bench = recovering()
    first = [permit for _ in range(50) if (permit := bench.admit()) is not None]
    assert len(first) == 3
    for permit in first:
        bench.end(permit)
    assert sum(bench.admit() is not None for _ in range(50)) == 6


def test_ramp_never_refuses_one_call_at_a_time() -> None:
    """Traffic as sparse as MCP's notices nothing of the ramp."""
    bench = recovering()
    bench.calls(100)
    assert bench.state() is State.RECOVERING


def test_ramp_ends() -> None:
    """When the ramp is over all get through, also if calls of the ramp never come back; and those that do count."""
    bench = recovering()
    slots = [bench.start() for _ in range(3)]
    assert bench.admit() is None
    bench.now += 10
    assert all(bench.admit() for _ in range(50))
    bench.end(slots[0], failed=True)
    assert bench.breaker.counts(bench.now) == (1, 1, 0)


def test_relapse_opens_early() -> None:
    """While it recovers as many calls decide as there are probes, and the wait is longer than the last one."""
    bench = recovering()
    bench.calls(3, failed=True)
    assert bench.state() is State.OPEN
    assert bench.breaker.until - bench.now == pytest.approx(20)


def test_single_failure_in_recovery_opens_nothing() -> None:
    """One failure among a few good calls is no relapse."""
    bench = recovering()
    bench.calls(2)
    bench.calls(1, failed=True)
    assert bench.state() is State.RECOVERING


def test_idle_breaker_recovers_by_itself() -> None:
    """What is asked from outside knows that a wait or a ramp is over, although no call came by."""
    bench = Bench(ramp=10.0)
    bench.calls(10, failed=True)
    bench.now += 11
    assert (bench.breaker.state, bench.state()) == (State.OPEN, State.HALF_OPEN)
    bench.calls(2)
    bench.now += 11
    assert (bench.breaker.state, bench.state()) == (State.RECOVERING, State.CLOSED)


# -- operators and news -----------------------------------------------------------------------------------------------


def test_forced_open_stays_open() -> None:
    """Neither time nor good news opens what an operator shut, until it is closed."""
    bench = Bench()
    bench.breaker.force_open(bench.now)
    bench.now += 1e6
    bench.breaker.provider_up(bench.now)
    bench.breaker.closed_elsewhere(bench.now)
    assert bench.admit() is None
    assert bench.breaker.retry_after(bench.now) is None
    bench.breaker.close(bench.now)
    bench.calls(5)


def test_disabled_counts_nothing() -> None:
    """A disabled breaker lets everything through, and knows nothing of it afterwards."""
    bench = Bench()
    bench.breaker.disable(bench.now)
    bench.calls(50, failed=True)
    bench.breaker.reset(bench.now)
    bench.calls(9, failed=True)
    assert bench.state() is State.CLOSED


def test_observed_breaker_decides_and_refuses_nothing() -> None:
    """An observed breaker goes through its states by its probes, and lets all others through uncounted."""
    bench = Bench()
    bench.breaker.observe(bench.now)
    bench.calls(10, failed=True)
    assert bench.state() is State.OPEN
    bench.calls(100, failed=True)
    bench.now = bench.breaker.until
    probes = [bench.start() for _ in range(50)]
    for permit in probes:
        bench.end(permit)
    assert bench.moves == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_observe_keeps_what_an_automatic_breaker_knows() -> None:
    """To be observed from now on is no new beginning."""
    bench = Bench()
    bench.calls(9, failed=True)
    bench.breaker.observe(bench.now)
    bench.calls(1, failed=True)
    assert bench.state() is State.OPEN


def test_close_keeps_the_backoff_and_reset_forgets_it() -> None:
    """Closed by hand too early it waits longer the next time; reset, it begins anew."""
    for act, wait in ((Breaker.close, 20), (Breaker.reset, 10)):
        bench = Bench()
        bench.calls(10, failed=True)
        act(bench.breaker, bench.now)
        bench.calls(10, failed=True)
        assert bench.breaker.until - bench.now == pytest.approx(wait)


def test_provider_that_is_back_is_tried_at_once() -> None:
    """When its provider comes back an open breaker probes without waiting; a second time it waits."""
    bench = Bench()
    bench.calls(10, failed=True)
    bench.breaker.provider_up(bench.now)
    assert bench.state() is State.HALF_OPEN
    bench.calls(2, failed=True)
    bench.breaker.provider_up(bench.now)
    assert bench.state() is State.OPEN


def test_provider_that_is_gone_needs_no_probes() -> None:
    """Half-open or recovering, it opens when its provider goes down; closed, it goes on by what calls meet."""
    bench = Bench().opened()
    bench.start()
    bench.breaker.provider_down(bench.now, "gone")
    assert bench.state() is State.OPEN
    bench = Bench()
    bench.breaker.provider_down(bench.now, "gone")
    assert bench.state() is State.CLOSED


def test_follows_another_replica() -> None:
    """It opens with another replica, for as long as that one, and probes when that one closes: no trip of its own."""
    bench = Bench()
    bench.breaker.open_elsewhere(bench.now, 7.0)
    assert (bench.state(), bench.breaker.trips) == (State.OPEN, 0)
    assert bench.breaker.retry_after(bench.now) == 7
    bench.breaker.closed_elsewhere(bench.now)
    bench.calls(2)
    assert bench.state() is State.CLOSED


def test_follows_nobody_against_its_own_calls() -> None:
    """Where enough calls went well here, it is the other replica's way that is broken."""
    bench = Bench()
    bench.calls(10)
    bench.breaker.open_elsewhere(bench.now, 7.0)
    assert bench.state() is State.CLOSED


def test_new_policy_keeps_state_and_counts() -> None:
    """Reconfigured, it counts on with what it knew, also in another kind of window."""
    for change in ({"window": 30.0}, {"window_calls": 50}, {"failure_rate": 0.4}):
        bench = Bench()
        bench.calls(9, failed=True)
        bench.breaker.apply(Policy(**{"ramp": 0.0, **change}), bench.now)  # type: ignore[arg-type]  # keys of several types
        assert bench.breaker.counts(bench.now) == (9, 9, 0)
        bench.calls(1, failed=True)
        until = bench.breaker.until
        bench.breaker.apply(Policy(open=1.0), bench.now)
        assert (bench.state(), bench.breaker.until) == (State.OPEN, until)


# -- the board --------------------------------------------------------------------------------------------------------


def board(*, limit: int = 1000, per: tuple[str, ...] = ("provider", "tool"), **policy: Any) -> Board:
    return Board(Policy(**policy), per=per, limit=limit, random=lambda: 0.5, listener=lambda *_: None)


def one(board: Board, tool: str | None, fault: Fault | None, now: float = 0.0, *, slow: bool = False) -> None:
    passage = board.enter("notes", tool, now)
    assert passage is not None
    passage.close(now, fault, slow=slow)


def counts(board: Board, tool: str | None, now: float = 0.0) -> tuple[int, int, int]:
    breaker = board.find(("notes", tool))
    assert breaker is not None
    return breaker.counts(now)


@pytest.mark.parametrize(
    ("fault", "provider", "tool"),
    [
        (None, (1, 0, 0), (1, 0, 1)),
        (Fault.TRANSPORT, (1, 1, 0), (0, 0, 0)),
        (Fault.TIMEOUT, (1, 1, 0), (1, 1, 1)),
        (Fault.APPLICATION, (1, 0, 0), (1, 1, 1)),
    ],
)
def test_faults_count_against_whom_they_blame(
    fault: Fault | None, provider: tuple[int, int, int], tool: tuple[int, int, int]
) -> None:
    """The way counts against the provider, what the tool answers against the tool, silence against both."""
    breakers = board()
    one(breakers, "add", fault, slow=True)
    assert counts(breakers, None) == provider
    assert counts(breakers, "add") == tool


@pytest.mark.parametrize("fault", list(Fault))
def test_single_breaker_learns_everything(fault: Fault) -> None:
    """What is no tool's, and what has one breaker only, is counted there."""
    breakers = board()
    one(breakers, None, fault, slow=True)
    assert counts(breakers, None) == (1, 1, 1)
    for per, tool in ((("provider",), None), (("tool",), "add")):
        breakers = board(per=per)
        one(breakers, "add", fault, slow=True)
        assert counts(breakers, tool) == (1, 1, 1)


def test_without_a_breaker_calls_pass() -> None:
    """With breakers for tools alone, what is no tool passes."""
    assert board(per=("tool",)).enter("notes", None, 0.0) is None


def test_broken_tool_leaves_the_others_alone() -> None:
    """A tool that fails is refused, and the provider's other tools are not."""
    breakers = board()
    for _ in range(10):
        one(breakers, "bad", Fault.APPLICATION)
    with pytest.raises(Blocked) as caught:
        breakers.enter("notes", "bad", 0.0)
    assert caught.value.breaker.key == ("notes", "bad")
    one(breakers, "good", None)


def test_tool_is_not_probed_where_the_way_is_lost() -> None:
    """A probe of a tool that meets a lost connection gives its place back: it says nothing about the tool."""
    breakers = board(minimum_calls=20, probes=1)
    for _ in range(20):
        one(breakers, "bad", Fault.APPLICATION)
    for _ in range(5):
        one(breakers, "bad", Fault.TRANSPORT, 20.0)
    one(breakers, "bad", None, 20.0)
    assert counts(breakers, "bad", 20.0) == (0, 0, 0)


def test_refused_by_one_takes_no_place_of_the_other() -> None:
    """A call that the tool's breaker refuses keeps no probe of the provider's; one that the latter refuses, nothing."""
    breakers = board(probes=1)
    for _ in range(10):
        one(breakers, "bad", Fault.TIMEOUT)
    tool = breakers.find(("notes", "bad"))
    assert tool is not None
    tool.force_open(5.0)
    for _ in range(5):
        with pytest.raises(Blocked, match="notes/bad"):
            breakers.enter("notes", "bad", 20.0)
    probe = breakers.enter("notes", "good", 20.0)
    for _ in range(5):
        with pytest.raises(Blocked, match="notes: half_open"):
            breakers.enter("notes", "other", 20.0)
    assert breakers.find(("notes", "other")) is None
    assert probe is not None


def test_memory_is_bounded() -> None:
    """However many names are called, no more breakers are kept than allowed; those with trouble stay longest."""
    breakers = board(limit=100)
    for _ in range(10):
        one(breakers, "bad", Fault.APPLICATION)
    for number in range(1000):
        one(breakers, f"made-up-{number}", None)
    assert len(breakers) == 100
    assert breakers.find(("notes", None)) is not None
    with pytest.raises(Blocked):
        breakers.enter("notes", "bad", 0.0)
    for number in range(1000):
        one(breakers, f"broken-{number}", Fault.APPLICATION)
    assert len(breakers) == 100


def test_what_an_operator_ordered_stays() -> None:
    """A tool forced open is no oldest one to drop, however many others have trouble."""
    breakers = board(limit=10)
    breakers.make(("notes", "forbidden"), 0.0).force_open(0.0)
    for number in range(100):
        for _ in range(2):
            one(breakers, f"broken-{number}", Fault.APPLICATION)
    assert breakers.find(("notes", "forbidden")) is not None
    assert len(breakers) == 10


def test_a_lower_bound_counts_at_once() -> None:
    """Fewer breakers are kept from the moment that the config says so."""
    breakers = board(limit=100)
    for number in range(50):
        one(breakers, f"tool-{number}", None)
    breakers.apply(Policy(), per=("provider", "tool"), limit=20, now=0.0)
    assert len(breakers) == 20


def test_refusals_leave_nothing() -> None:
    """Each refusal is an exception of its own: no traceback grows, and nothing is kept."""
    breakers = board()
    for _ in range(10):
        one(breakers, None, Fault.TRANSPORT)
    seen = []
    for _ in range(50):
        with pytest.raises(Blocked) as caught:
            breakers.enter("notes", None, 0.0)
        seen.append(caught.value)
    assert len({id(error) for error in seen}) == 50
    assert {len(traceback.extract_tb(error.__traceback__)) for error in seen} == {
        len(traceback.extract_tb(seen[0].__traceback__))
    }


def test_breaker_says_who_it_is() -> None:
    """The repr names provider, tool, state and mode."""
    breakers = board()
    one(breakers, "add", None)
    breaker = breakers.find(("notes", "add"))
    assert repr(breaker) == "<Breaker notes/add: closed (auto)>"
    assert breaker is not None
    assert breaker.mode is Mode.AUTO
    assert breaker.until == math.inf
