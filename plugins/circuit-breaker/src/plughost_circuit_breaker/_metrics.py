"""The metrics: where the breakers stand, and what they refused."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from plughost import InstanceMeter, Readings

from plughost_circuit_breaker._board import PROVIDER, TOOL, Board, Key
from plughost_circuit_breaker._breaker import Breaker, Mode, State

if TYPE_CHECKING:
    from plughost import Clock

LEVEL: Final = {State.CLOSED: 0, State.RECOVERING: 1, State.HALF_OPEN: 2, State.OPEN: 3}
"""The gauge's value in each state."""
MOST_TOOLS: Final = 100
"""Tools of one instance that have a series of their own at most."""

meter: InstanceMeter[Tally] = InstanceMeter("plughost.circuit_breaker")


class Tally:
    """What one plugin instance reports: the states on its board, and how many calls it refused."""

    def __init__(self, name: str, board: Board, clock: Clock) -> None:
        self.name = name
        self._board = board
        self._clock = clock
        self._refused: Counter[tuple[str, str]] = Counter()
        meter.watch(self)

    def refused(self, key: Key) -> None:
        self._refused[key[0], PROVIDER if key[1] is None else TOOL] += 1

    def close(self) -> None:
        """Report nothing any more."""
        meter.unwatch(self)

    @meter.gauge("plughost.circuit_breaker.state", "", "0 closed, 1 recovering, 2 half-open, 3 open.")
    def states(self) -> Readings:
        """Every provider's state, and that of tools that had trouble: those at peace are many, and say nothing."""
        now, tools = self._clock.monotonic(), 0
        for breaker in self._board:
            provider, tool = breaker.key
            if tool is not None:
                if not _notable(breaker) or tools == MOST_TOOLS:
                    continue
                tools += 1
            named = {} if tool is None else {"gen_ai.tool.name": tool}
            yield LEVEL[breaker.state_at(now)], {"plughost.provider": provider, **named}

    @meter.counter("plughost.circuit_breaker.refused", "{call}", "Calls that a breaker did not let through.")
    def refusals(self) -> Readings:
        for (provider, scope), count in list(self._refused.items()):
            yield count, {"plughost.provider": provider, "plughost.circuit_breaker.scope": scope}


def _notable(breaker: Breaker) -> bool:
    return breaker.trips > 0 or breaker.state is not State.CLOSED or breaker.mode is not Mode.AUTO
