"""The metrics: where the breakers stand, and what they refused. Read when somebody collects; a call pays nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from opentelemetry import metrics

from plughost_circuit_breaker._board import PROVIDER, TOOL, Board, Key
from plughost_circuit_breaker._breaker import Breaker, Mode, State

if TYPE_CHECKING:
    from plughost import Clock

LEVEL: Final = {State.CLOSED: 0, State.RECOVERING: 1, State.HALF_OPEN: 2, State.OPEN: 3}
"""The gauge's value in each state."""
MOST_TOOLS: Final = 100
"""Tools of one instance that have a series of their own at most."""

_LIVE: WeakSet[Tally] = WeakSet()


class Tally:
    """What one plugin instance reports: the states on its board, and how many calls it refused."""

    def __init__(self, instance: str, board: Board, clock: Clock) -> None:
        self._instance = instance
        self._board = board
        self._clock = clock
        self._refused: Counter[tuple[str, str]] = Counter()
        _instruments()
        _LIVE.add(self)

    def refused(self, key: Key) -> None:
        self._refused[key[0], PROVIDER if key[1] is None else TOOL] += 1

    def close(self) -> None:
        """Report nothing any more."""
        _LIVE.discard(self)

    def states(self) -> Iterable[metrics.Observation]:
        """Every provider's state, and that of tools that had trouble: those at peace are many, and say nothing."""
        now, tools = self._clock.monotonic(), 0
        for breaker in self._board:
            provider, tool = breaker.key
            if tool is not None:
                if not _notable(breaker) or tools == MOST_TOOLS:
                    continue
                tools += 1
            named = {} if tool is None else {"gen_ai.tool.name": tool}
            where = {"plughost.plugin": self._instance, "plughost.provider": provider, **named}
            yield metrics.Observation(LEVEL[breaker.state_at(now)], where)

    def refusals(self) -> Iterable[metrics.Observation]:
        for (provider, scope), count in list(self._refused.items()):
            where = {"plughost.plugin": self._instance, "plughost.provider": provider}
            yield metrics.Observation(count, {**where, "plughost.circuit_breaker.scope": scope})


def _notable(breaker: Breaker) -> bool:
    return breaker.trips > 0 or breaker.state is not State.CLOSED or breaker.mode is not Mode.AUTO


@cache
def _instruments() -> tuple[object, ...]:
    # One for all instances: the OpenTelemetry API never lets an observable instrument go, nor what it observes.
    meter = metrics.get_meter("plughost.circuit_breaker")
    return (
        meter.create_observable_gauge(
            "plughost.circuit_breaker.state",
            [lambda _: [item for tally in list(_LIVE) for item in tally.states()]],
            description="0 closed, 1 recovering, 2 half-open, 3 open.",
        ),
        meter.create_observable_counter(
            "plughost.circuit_breaker.refused",
            [lambda _: [item for tally in list(_LIVE) for item in tally.refusals()]],
            unit="{call}",
            description="Calls that a breaker did not let through.",
        ),
    )
