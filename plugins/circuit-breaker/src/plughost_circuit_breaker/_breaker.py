"""A circuit breaker: a state machine without clock, tasks or I/O. Time is handed in.

The pattern is Michael Nygard's ("Release It!"); rates over a window with a minimum of calls, slow calls, and a limited
number of probes are those of resilience4j. What is added here: a probe has a time limit, so that one that never comes
back pins nothing; recovery is ramped, as TCP's slow start; and every result says in which era it was let through, so
that what comes back after a transition counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from plughost_circuit_breaker._window import CountWindow, TimeWindow, Window

BUSY: Final = 1.0
"""Seconds after which to ask again when all places of probes are taken: how long they take, nobody knows."""


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"  #: lets all calls through
    OPEN = "open"  #: lets none through, until its wait is over
    HALF_OPEN = "half_open"  #: lets a few probes through, and decides by them
    RECOVERING = "recovering"  #: the probes were well; lets more and more calls through at a time


class Mode(StrEnum):
    """What an operator made of a breaker."""

    AUTO = "auto"  #: it decides by what it sees
    FORCED_OPEN = "forced_open"  #: it refuses all calls
    DISABLED = "disabled"  #: it lets all calls through, and counts none
    OBSERVE = "observe"  #: it counts, decides and reports, and lets all calls through


@dataclass(frozen=True, slots=True)
class Policy:
    """When a breaker opens, for how long, and how it comes back. All times are in seconds."""

    window: float = 60.0
    window_calls: int | None = None
    minimum_calls: int = 10
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    open: float = 10.0
    open_max: float = 120.0
    jitter: float = 0.2
    probes: int = 3
    probe_timeout: float = 60.0
    ramp: float = 10.0

    def new_window(self) -> Window:
        """An empty window, over calls if their number is given, else over time."""
        return TimeWindow(self.window) if self.window_calls is None else CountWindow(self.window_calls)

    def wait(self, trips: int, chance: float) -> float:
        """How long it stays open when it opens for the `trips`-th time in a row; `chance` is from 0 to 1."""
        doubled = self.open * 2.0 ** min(trips - 1, 60)
        return min(doubled, self.open_max) * (1 + self.jitter * (2 * chance - 1))


class Permit:
    """Leave to make one call; to be given back with `record` or `release`. While closed, all calls share one."""

    __slots__ = ("era", "since")

    def __init__(self, era: int, since: float) -> None:
        self.era = era
        self.since = since


UNCOUNTED: Final = Permit(-1, 0.0)
"""The permit of a call whose result is of no interest."""

Listener = Callable[["Breaker", float], None]
"""Told of a breaker that has just changed its state, and of the time."""


class Breaker:
    """The breaker of one provider or tool.

    `since` is when its state began, `until` when it ends by itself, `reason` why it began; `trips` how often it opened
    since it was last stable.
    """

    __slots__ = (
        "__weakref__",
        "_era",
        "_limit",
        "_listener",
        "_out",
        "_pass",
        "_policy",
        "_probed",
        "_random",
        "_window",
        "key",
        "mode",
        "reason",
        "since",
        "state",
        "trips",
        "until",
    )

    def __init__(
        self, key: tuple[str, str | None], policy: Policy, *, random: Callable[[], float], listener: Listener
    ) -> None:
        self.key = key
        self.mode = Mode.AUTO
        self.reason = ""
        self.since = -math.inf
        self.state = State.CLOSED
        self.trips = 0
        self.until = math.inf
        self._era = 0
        self._listener = listener
        self._policy = policy
        self._random = random
        self._out: set[Permit] = set()  # probes under way
        self._probed: Window = CountWindow(policy.probes)
        self._limit = 0
        self._window = policy.new_window()
        self._pass: Permit | None = Permit(0, 0.0)

    # -- calls --------------------------------------------------------------------------------------------------------

    def admit(self, now: float) -> Permit | None:
        """A permit for one call, or `None` if it must not be made."""
        return self._pass or self._admit(now)

    def record(self, permit: Permit, now: float, *, failed: bool, slow: bool) -> None:
        """Count how a call ended. What was let through before the last transition counts for nothing."""
        if permit.era != self._era:
            return
        if permit is not self._pass:
            if permit not in self._out:
                return  # a probe that was given up; it was counted then
            self._out.remove(permit)
            self._settle(now)
            if permit.era != self._era:
                return
        if self.state is State.HALF_OPEN:
            self._probe_ended(now, failed=failed, slow=slow)
            return
        self._window.record(now, failed=failed, slow=slow)
        minimum = self._policy.minimum_calls
        if self.state is State.RECOVERING:
            self._limit += not (failed or slow)
            minimum = min(minimum, self._policy.probes)
        if self._window.calls >= minimum:
            self._judge(now)

    def release(self, permit: Permit) -> None:
        """Give a permit back without a result: the call was cancelled, or says nothing about the provider."""
        self._out.discard(permit)

    def retry_after(self, now: float) -> float | None:
        """Seconds after which a call that was refused may be let through; `None` if nobody knows."""
        if self.state is State.OPEN:
            return None if self.until == math.inf else max(self.until - now, 0.0)
        return min(BUSY, max(self.until - now, 0.0))

    # -- what others know ---------------------------------------------------------------------------------------------

    def provider_up(self, now: float) -> None:
        """The provider is back: try it at once. Once only: one that comes back and fails again waits its time."""
        if self.state is State.OPEN and self.mode is not Mode.FORCED_OPEN and self.trips <= 1:
            self._half_open(now, "the provider is back")

    def provider_down(self, now: float, reason: str) -> None:
        """The provider is gone: what the probes will find is known. A closed breaker goes on by what calls meet."""
        if self.state in {State.HALF_OPEN, State.RECOVERING}:
            self._open(now, reason)

    def open_elsewhere(self, now: float, wait: float) -> None:
        """Another replica opened its breaker for so many seconds: do the same, unless enough calls here say otherwise.

        It is no trip of this breaker: its own next wait does not grow.
        """
        self._settle(now)
        self._window.roll(now)
        undecided = self._window.calls < self._policy.minimum_calls
        if self.mode in {Mode.AUTO, Mode.OBSERVE} and self.state in {State.CLOSED, State.RECOVERING} and undecided:
            self._move(State.OPEN, now, "another replica opened it", until=now + wait)

    def closed_elsewhere(self, now: float) -> None:
        """Another replica's probes were well: try it at once."""
        if self.state is State.OPEN and self.mode is not Mode.FORCED_OPEN:
            self._half_open(now, "another replica closed it")

    # -- operators ----------------------------------------------------------------------------------------------------

    def force_open(self, now: float) -> None:
        """Refuse all calls until further notice."""
        self.mode = Mode.FORCED_OPEN
        self._move(State.OPEN, now, "forced open")

    def disable(self, now: float) -> None:
        """Let all calls through and count none, until further notice."""
        self._restart(now, Mode.DISABLED, "disabled")

    def observe(self, now: float) -> None:
        """Let all calls through, but count, decide and report, until further notice."""
        if self.mode in {Mode.FORCED_OPEN, Mode.DISABLED}:
            self._restart(now, Mode.OBSERVE, "observed")
        self.mode = Mode.OBSERVE

    def close(self, now: float) -> None:
        """Let all calls through from now on, with nothing counted yet; the next wait stays as long as it had become."""
        self._restart(now, Mode.AUTO, "closed by an operator")

    def reset(self, now: float) -> None:
        """Forget everything."""
        self.trips = 0
        self._restart(now, Mode.AUTO, "reset")

    def apply(self, policy: Policy, now: float) -> None:
        """Take a new policy and keep state, wait and counts."""
        before, self._policy = self._policy, policy
        if (before.window, before.window_calls) != (policy.window, policy.window_calls):
            old, self._window = self._window, policy.new_window()
            for item in old.slices(now):
                self._window.add(item)

    # -- what is seen from outside ------------------------------------------------------------------------------------

    def state_at(self, now: float) -> State:
        """The state that the next call will meet. Changes nothing, so any thread may ask."""
        over = now >= self.until
        if over and self.state is State.OPEN:
            return State.HALF_OPEN
        return State.CLOSED if over and self.state is State.RECOVERING else self.state

    def counts(self, now: float) -> tuple[int, int, int]:
        """Calls, failures and slow calls in the window; of the probes while half-open."""
        window = self._probed if self.state is State.HALF_OPEN else self._window
        window.roll(now)
        return window.calls, window.failures, window.slow

    def at_rest(self, now: float) -> bool:
        """Whether nothing but successes would be forgotten with it."""
        _, failures, slow = self.counts(now)
        stable = self.trips == 0 or now - self.since >= self._policy.open_max
        return self.state is State.CLOSED and self.mode is Mode.AUTO and stable and not failures and not slow

    # -- the machine --------------------------------------------------------------------------------------------------

    def _admit(self, now: float) -> Permit | None:
        self._settle(now)
        if self._pass is not None:
            return self._pass
        probing = self.state is State.HALF_OPEN
        taken = len(self._out) + (self._probed.calls if probing else 0)
        if self.state is not State.OPEN and taken < self._limit:
            permit = Permit(self._era, now)
            self._out.add(permit)
            return permit
        return UNCOUNTED if self.mode is Mode.OBSERVE else None

    def _settle(self, now: float) -> None:
        """Make the transitions that time alone makes."""
        if self.state is State.HALF_OPEN:
            for permit in [item for item in self._out if now - item.since >= self._policy.probe_timeout]:
                if self.state is State.HALF_OPEN:
                    self._out.discard(permit)
                    self._probe_ended(now, failed=True, slow=True)
        if now >= self.until:
            if self.state is State.OPEN:
                self._half_open(now, "its wait is over")
            elif self.state is State.RECOVERING:
                self._move(State.CLOSED, now, "recovered", same_era=True)

    def _judge(self, now: float) -> None:
        window, policy = self._window, self._policy
        # Divided, since 7 / 25 is the 0.28 that somebody wrote, and 0.28 * 25 is more than 7.
        if window.failures / window.calls >= policy.failure_rate:
            self._open(now, f"{window.failures} of {window.calls} calls failed")
        elif window.slow / window.calls >= policy.slow_rate:
            self._open(now, f"{window.slow} of {window.calls} calls were slow")

    def _probe_ended(self, now: float, *, failed: bool, slow: bool) -> None:
        """Decide as soon as no further probe can change the decision."""
        probed, policy, limit = self._probed, self._policy, self._limit
        probed.record(now, failed=failed, slow=slow)
        left = limit - probed.calls
        if probed.failures / limit >= policy.failure_rate:
            self._open(now, f"{probed.failures} of {probed.calls} probes failed")
        elif probed.slow / limit >= policy.slow_rate:
            self._open(now, f"{probed.slow} of {probed.calls} probes were slow")
        elif (probed.failures + left) / limit < policy.failure_rate and (probed.slow + left) / limit < policy.slow_rate:
            self._recover(now)

    def _open(self, now: float, reason: str) -> None:
        if self.state is State.CLOSED and now - self.since >= self._policy.open_max:
            self.trips = 0
        self.trips += 1
        self._move(State.OPEN, now, reason, until=now + self._policy.wait(self.trips, self._random()))

    def _half_open(self, now: float, reason: str) -> None:
        self._limit = self._policy.probes
        self._probed = CountWindow(self._limit)
        self._move(State.HALF_OPEN, now, reason)

    def _recover(self, now: float) -> None:
        self._window = self._policy.new_window()
        if self._policy.ramp:
            self._move(State.RECOVERING, now, "its probes were well", until=now + self._policy.ramp)
        else:
            self._move(State.CLOSED, now, "its probes were well")

    def _restart(self, now: float, mode: Mode, reason: str) -> None:
        self.mode = mode
        self._window = self._policy.new_window()
        self._move(State.CLOSED, now, reason)

    def _move(self, state: State, now: float, reason: str, *, until: float = math.inf, same_era: bool = False) -> None:
        if not same_era:
            self._era += 1
            self._out.clear()
        self.state, self.since, self.until, self.reason = state, now, until, reason
        if state is not State.CLOSED:
            self._pass = None
        else:
            self._pass = UNCOUNTED if self.mode is Mode.DISABLED else Permit(self._era, now)
        self._listener(self, now)

    def __repr__(self) -> str:
        provider, tool = self.key
        return f"<Breaker {provider if tool is None else f'{provider}/{tool}'}: {self.state} ({self.mode})>"
