"""The plugin: its config, and where it stands in the pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    Duration,
    ErrorCode,
    EventType,
    GuardConfig,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginConfig,
    Refusal,
    Result,
    hookimpl,
)
from pydantic import Field

from plughost_timeout._limits import Limits, LimitTable
from plughost_timeout._timer import Timer, logger

if TYPE_CHECKING:
    from plughost import Host

LONG_LIVED = frozenset({"subscriptions/listen", "tasks/result"})
"""Methods that wait for something to happen. They are not limited."""

Limit = Annotated[Duration, Field(gt=0)] | Literal["none"]


class ToolLimits(PluginConfig):
    """Limits of some tools. What is not given is as for all others."""

    attempt: Limit | None = None
    """How long one attempt may take."""
    total: Limit | None = None
    """How long the call may take in all."""


class TimeoutConfig(GuardConfig):
    """The keys of `[plugins.timeout]`."""

    attempt: Limit = 30.0
    """How long one attempt may take, or `"none"`."""
    total: Limit = 60.0
    """How long the call may take in all, attempts and the waiting between them, or `"none"`."""
    tools: dict[str, ToolLimits] = Field(default_factory=dict)
    """Other limits for tools: glob on the provider's own name → `attempt`, `total`. The first glob that fits counts."""

    def table(self) -> LimitTable:
        """The limits, ready to be looked up."""
        overrides = {
            glob: Limits(_seconds(own.attempt or self.attempt), _seconds(own.total or self.total))
            for glob, own in self.tools.items()
        }
        return LimitTable(Limits(_seconds(self.attempt), _seconds(self.total)), overrides)


def _seconds(limit: float | Literal["none"]) -> float | None:
    return None if limit == "none" else limit


class TimeoutPlugin(MCPPlugin[TimeoutConfig]):
    """Ends a call that takes too long, tells the provider, and says which limit ran out. Progress extends none (T8)."""

    def __init__(self, config: TimeoutConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.expired: Counter[tuple[str, str]] = Counter()
        """How often a limit ran out, by provider and limit."""
        self._count = metrics.get_meter("plughost.timeout").create_counter(
            "plughost.timeout.count", unit="{call}", description="Calls and attempts that ran out of time, by limit."
        )

    async def register(self, host: Host) -> None:
        self._host = host
        self._now = host.clock.monotonic

    async def reconfigure(self, config: TimeoutConfig) -> bool:
        del config  # the next generation's middleware is bound to it; calls under way keep their limits
        return True

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        enforce = self.config.mode == "enforce"
        layers = Enforcing(self, self.config.table()) if enforce else Observing(self, self.config.table())
        return [
            Middleware(layers.total, Phase.PROTECT, before=("retry", "circuit-breaker", "bulkhead")),
            Middleware(layers.attempt, Phase.PROTECT, after=("retry", "circuit-breaker")),
        ]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [Operation("show", self._show, summary="the limits, and how often each ran out")]

    async def _show(self, _: Any) -> dict[str, Any]:
        keys = {"attempt", "total", "tools"}
        counted = [{"provider": who, "limit": limit, "count": n} for (who, limit), n in sorted(self.expired.items())]
        return {**self.config.model_dump(mode="json", include=keys, exclude_none=True), "expired": counted}

    def note(self, call: Call, limit: str, seconds: float, *, refused: bool = True) -> None:
        """Count a limit that ran out, and tell of it."""
        provider = call.provider or ""
        self.expired[provider, limit] += 1
        where = {"plughost.plugin": self.name, "plughost.provider": provider}
        self._count.add(1, {**where, "plughost.timeout.limit": limit})
        details = {"method": call.method, "provider": provider, "target": call.target, "limit": limit}
        kind = EventType.REFUSED if refused else EventType.WOULD_REFUSE
        self._host.publish(HostEvent(kind, self.name, {**details, "limitMs": round(seconds * 1000)}))

    def now(self) -> float:
        """The host's clock."""
        return self._now()


class Enforcing:
    """The two layers in one generation.

    The outer one only sets the deadline. The inner one holds each attempt to it as well as to its own limit, with one
    timer for both: so the breaker around it counts a call that ran out of its total, and whoever waits between
    attempts has to look at `call.deadline` anyway.
    """

    def __init__(self, plugin: TimeoutPlugin, table: LimitTable) -> None:
        self._plugin = plugin
        self._table = table
        self._now = plugin.now

    def total(self, call: Call, call_next: CallNext) -> Awaitable[Result]:
        """Set the deadline, never later than one that is set already."""
        seconds = self._limits(call).total
        if call.deadline is not None:
            left = call.deadline - self._now()
            if seconds is None or left <= seconds:
                call.state[self] = left  # for the message, should it run out
                return call_next(call)
        if seconds is not None:
            call.deadline = self._now() + seconds
        return call_next(call)

    async def attempt(self, call: Call, call_next: CallNext) -> Result:
        """Hand the call on, and end it when its first limit runs out. What comes after that is no answer."""
        limits, deadline, now = self._limits(call), call.deadline, self._now()
        seconds, limit = limits.first(None if deadline is None else deadline - now)
        if seconds is None:
            return await call_next(call)
        own = call.attempt_deadline = None if limits.full is None else now + limits.full
        if seconds <= 0:
            raise self._refusal(call, limits, limit)
        timer = Timer(seconds, call)
        try:
            result = await call_next(call)
        except BaseException as error:
            if timer.stop():
                call.attempt_deadline = own  # a hedged attempt beside this one has set its own
                raise self._refusal(call, limits, limit) from error
            raise
        if timer.stop():
            call.attempt_deadline = own
            logger.warning("%r was cancelled at its time limit, and answered all the same; refused", call)
            raise self._refusal(call, limits, limit)
        return result

    def _limits(self, call: Call) -> Limits:
        return _limits_of(call, self._table)

    def _refusal(self, call: Call, limits: Limits, limit: str) -> Refusal:
        seconds = (limits.attempt if limit == "attempt" else limits.total) or 0.0
        if limit == "total" and self in call.state:
            limit, seconds = "deadline", call.state[self]
        self._plugin.note(call, limit, seconds)
        message = f"{call.target or call.method!r} did not answer within {seconds:g} s, {_MEANING[limit]}"
        if limit != "deadline":
            message += f". Ask for less, or raise {limit} in [plugins.{self._plugin.name}]"
        details = {"limit": limit, "limitMs": round(seconds * 1000), "provider": call.provider, "target": call.target}
        return Refusal(ErrorCode.TIMEOUT, message, details=details)


_MEANING = {
    "attempt": "the limit of one attempt",
    "total": "the limit of all attempts together",
    "deadline": "which was left until a deadline that others had set",
}


class Observing:
    """The two layers with `mode = "observe"`: nothing is cut short, and what would have been is told afterwards."""

    def __init__(self, plugin: TimeoutPlugin, table: LimitTable) -> None:
        self._plugin = plugin
        self._table = table

    async def total(self, call: Call, call_next: CallNext) -> Result:
        """Tell of a call that took longer than its total."""
        return await self._watch(call, call_next, "total", _limits_of(call, self._table).total)

    async def attempt(self, call: Call, call_next: CallNext) -> Result:
        """Tell of an attempt that took longer than it may."""
        return await self._watch(call, call_next, "attempt", _limits_of(call, self._table).attempt)

    async def _watch(self, call: Call, call_next: CallNext, limit: str, seconds: float | None) -> Result:
        began = self._plugin.now()
        try:
            return await call_next(call)
        finally:
            took = self._plugin.now() - began
            if seconds is not None and took > seconds:
                words = "%s would refuse %r: it took %.3g s, and its limit (%s) is %g s"
                logger.warning(words, self._plugin.name, call, took, limit, seconds)
                self._plugin.note(call, limit, seconds, refused=False)


UNLIMITED = Limits(None, None)


def _limits_of(call: Call, table: LimitTable) -> Limits:
    if call.method == "tools/call":
        return table.of_tool(call.local_name)
    return UNLIMITED if call.method in LONG_LIVED else table.default
