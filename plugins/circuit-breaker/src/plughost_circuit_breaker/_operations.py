"""What operators can do to breakers while the host runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from plughost import Host, Kind, Operation, PlughostError, PluginConfig

from plughost_circuit_breaker._board import Board
from plughost_circuit_breaker._breaker import Breaker


class AnyBreaker(PluginConfig):
    """All breakers, those of a provider, or one tool's."""

    provider: str | None = None
    """Name of the provider."""
    tool: str | None = None
    """Name of the tool, as the provider has it."""

    def fits(self, breaker: Breaker) -> bool:
        provider, tool = breaker.key
        return self.provider in {None, provider} and self.tool in {None, tool}


class OneBreaker(PluginConfig):
    """A provider's breaker, or a tool's."""

    provider: str
    """Name of the provider."""
    tool: str | None = None
    """Name of the tool, as the provider has it; without it, it is about the provider as a whole."""


class Operations:
    """The operations of one plugin instance. Each answers with the breakers that it is about, as `show` does."""

    def __init__(self, host: Host, board: Board) -> None:
        self._host = host
        self._board = board

    def all(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, parameters=AnyBreaker, summary="State and counts of breakers"),
            self._for_one("force-open", Breaker.force_open, "Refuse all calls, until closed or reset"),
            self._for_one("disable", Breaker.disable, "Let all calls through and count none, until closed or reset"),
            self._for_one("observe", Breaker.observe, "Count, decide and report, but let all calls through"),
            self._for_one("close", Breaker.close, "Let all calls through from now on, and decide by new counts"),
            Operation("reset", self.reset, parameters=AnyBreaker, changes=True, summary="Forget all they know"),
        ]

    async def show(self, parameters: AnyBreaker) -> Mapping[str, Any]:
        now = self._host.clock.monotonic()
        return {"breakers": [describe(breaker, now) for breaker in self._board if parameters.fits(breaker)]}

    async def reset(self, parameters: AnyBreaker) -> Mapping[str, Any]:
        now = self._host.clock.monotonic()
        for breaker in self._board:
            if parameters.fits(breaker):
                breaker.reset(now)
        return await self.show(parameters)

    def _for_one(self, name: str, act: Callable[[Breaker, float], None], summary: str) -> Operation:
        async def run(parameters: OneBreaker) -> Mapping[str, Any]:
            now = self._host.clock.monotonic()
            breaker = self._find(parameters.provider, parameters.tool, now)
            act(breaker, now)
            return {"breakers": [describe(breaker, now)]}

        return Operation(name, run, parameters=OneBreaker, changes=True, summary=summary)

    def _find(self, provider: str, tool: str | None, now: float) -> Breaker:
        """The breaker, made if there were no calls yet.

        Raises:
            PlughostError: There is no such provider or tool, or the config keeps no breakers of this kind.
        """
        catalog = self._host.generation.catalog
        if provider not in catalog.providers:
            raise PlughostError(f"there is no provider {provider!r}; there are: {', '.join(catalog.providers)}")
        tools = {route.local_name for route in catalog.routes[Kind.TOOLS].values() if route.provider == provider}
        found = self._board.find((provider, tool))
        if tool is not None and found is None and tool not in tools:
            known = ", ".join(sorted(tools)) or "none"
            raise PlughostError(f"provider {provider!r} has no tool {tool!r}, as it names them; it has: {known}")
        if not self._board.keeps((provider, tool)):
            what = "provider" if tool is None else "tool"
            raise PlughostError(f"no {what} has a breaker of its own; add {what!r} to per")
        return found or self._board.make((provider, tool), now)


def describe(breaker: Breaker, now: float) -> dict[str, Any]:
    """A breaker as JSON. Seconds and milliseconds are from now."""
    provider, tool = breaker.key
    calls, failures, slow = breaker.counts(now)
    state = breaker.state_at(now)
    wait = breaker.until - now if state == breaker.state else 0.0
    return {
        "provider": provider,
        "tool": tool,
        "state": state.value,
        "mode": breaker.mode.value,
        "reason": breaker.reason,
        "calls": calls,
        "failures": failures,
        "slow": slow,
        "trips": breaker.trips,
        "changesInMs": round(wait * 1000) if 0 < wait < float("inf") else None,
    }
