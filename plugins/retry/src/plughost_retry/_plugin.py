"""The plugin: what it remembers, where it stands in the pipeline, and the loop.

The loop is its own, since a call that succeeds at once shall pay nothing for it: one `try`. The libraries for retries
(tenacity, stamina around it) build their state for each call, which costs twenty times what this does, and none of
them knows a budget, a deadline or the provider's advice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    EventType,
    HostEvent,
    Kind,
    MCPPlugin,
    Middleware,
    Operation,
    Outcome,
    Phase,
    Result,
    classify,
    hookimpl,
)

from plughost_retry._backoff import Backoff
from plughost_retry._budget import WINDOW, Budget
from plughost_retry._config import RetryConfig
from plughost_retry._failure import ToolFailed, asked_wait, may_succeed_later, reached, with_attempts
from plughost_retry._hedge import hedged
from plughost_retry._latencies import Latencies
from plughost_retry._policy import Policy
from plughost_retry._progress import OneProgress

if TYPE_CHECKING:
    from plughost import Host

MOST_TOOLS = 1000
"""Tools whose latencies are kept; clients may invent names that a glob fits."""
_RETRYING = object()
"""Key of a call's state: the instance that retries it. Another one further in would multiply the attempts."""


class RetryPlugin(MCPPlugin[RetryConfig]):
    """Makes a failed call again, where that is safe and within a budget; hedges slow ones."""

    def __init__(self, config: RetryConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.budgets: dict[str | None, Budget] = {}
        """By provider; `None` is for lists that are merged from several."""
        self.latencies: dict[tuple[str | None, str | None], Latencies] = {}
        """By provider and tool, of tools that are hedged."""
        self._told: dict[str | None, float] = {}
        meter = metrics.get_meter("plughost.retry")
        self._retries = meter.create_counter(
            "plughost.retry.retries", unit="{attempt}", description="Attempts after the first, by provider."
        )
        self._exhausted = meter.create_counter(
            "plughost.retry.budget_exhausted", unit="{call}", description="Failures not retried for want of budget."
        )
        self._hedges = meter.create_counter(
            "plughost.retry.hedges", unit="{attempt}", description="Second attempts beside a slow first one."
        )

    async def register(self, host: Host) -> None:
        self._host = host
        self._now = host.clock.monotonic

    async def reconfigure(self, config: RetryConfig) -> bool:
        for budget in self.budgets.values():
            budget.ratio, budget.floor = config.budget, config.budget_floor
        return True  # the next generation's middleware is bound to the rest

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(Retrying(self, self.config).handle, Phase.PROTECT)]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self._show, summary="budgets by provider, and hedge delays by tool"),
            Operation("reset", self._reset, changes=True, summary="fill the budgets, forget the latencies"),
        ]

    async def _show(self, _: Any) -> dict[str, Any]:
        now = self._now()
        return {
            "budgets": {provider or "": int(budget.left(now)) for provider, budget in self.budgets.items()},
            "hedges": [
                {"provider": provider, "tool": tool, "calls": round(seen.count), "delayMs": _ms(self.delay(seen))}
                for (provider, tool), seen in self.latencies.items()
            ],
        }

    async def _reset(self, _: Any) -> dict[str, Any]:
        self.budgets.clear()
        self.latencies.clear()
        self._told.clear()
        return {}

    # -- what the layer uses ------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The host's clock."""
        return self._now()

    async def sleep(self, seconds: float) -> None:
        """Wait on the host's clock."""
        await self._host.clock.sleep(seconds)

    def budget(self, provider: str | None) -> Budget:
        """What a provider has left."""
        found = self.budgets.get(provider)
        if found is None:
            found = Budget(self.config.budget, self.config.budget_floor, self._now())
            self.budgets[provider] = found
        return found

    def seen(self, call: Call) -> Latencies:
        """How long calls of this tool took so far."""
        key = (call.provider, call.local_name)
        found = self.latencies.get(key)
        if found is None:
            while len(self.latencies) >= MOST_TOOLS:
                del self.latencies[next(iter(self.latencies))]
            found = self.latencies[key] = Latencies()
        return found

    def delay(self, seen: Latencies) -> float | None:
        """Seconds after which a second attempt starts; `None` as long as too few calls were seen."""
        hedge = self.config.hedge
        if hedge.delay is not None:
            return hedge.delay
        return seen.quantile(hedge.percentile / 100) if seen.count >= hedge.min_samples else None

    def annotations(self, call: Call) -> Mapping[str, Any]:
        """What the provider lists of the called tool."""
        route = self._host.generation.catalog.routes[Kind.TOOLS].get(call.target or "")
        said = route.entry.get("annotations") if route is not None else None
        return said if isinstance(said, Mapping) else {}

    def retried(self, call: Call, attempt: int, delay: float, failure: Exception) -> None:
        """Tell of a further attempt."""
        self._retries.add(1, self._labels(call))
        details = {"attempt": attempt, "delayMs": _ms(delay), "code": getattr(failure, "code", None)}
        self._host.publish(HostEvent(EventType.RETRIED, self.name, {**_where(call), **details}))

    def exhausted(self, call: Call) -> None:
        """Tell of a failure that is not retried for want of budget: all are counted, one a minute is an event."""
        self._exhausted.add(1, self._labels(call))
        now = self._now()
        if now >= self._told.get(call.provider, now):
            self._told[call.provider] = now + WINDOW
            self._host.publish(HostEvent(EventType.BUDGET_EXHAUSTED, self.name, _where(call)))

    def doubled(self, call: Call) -> None:
        """Count a second attempt beside a first."""
        self._hedges.add(1, self._labels(call))

    def _labels(self, call: Call) -> dict[str, str]:
        return {"plughost.plugin": self.name, "plughost.provider": call.provider or ""}


class Retrying:
    """The layer in one generation."""

    def __init__(self, plugin: RetryPlugin, config: RetryConfig) -> None:
        self._plugin = plugin
        self._name = plugin.name
        self._attempts = config.attempts
        self._tool_errors = config.tool_errors
        self._backoff = Backoff(config.backoff, config.max_backoff)
        self._policy = Policy(
            tools=config.tools,
            hedged_tools=config.hedge.tools,
            reads=config.reads,
            trusted=config.trusted,
            annotations=plugin.annotations,
        )

    def handle(self, call: Call, call_next: CallNext) -> Awaitable[Result]:
        """Hand the call on; what may not run twice, or is retried already, passes as if this were not here."""
        if not self._policy.repeatable(call) or call.state.setdefault(_RETRYING, self._name) != self._name:
            return call_next(call)
        return self._told_once(call, call_next) if "progressToken" in call.meta else self._call(call, call_next)

    async def _told_once(self, call: Call, call_next: CallNext) -> Result:
        line, call.dispatch = call.dispatch, OneProgress(call.dispatch)
        try:
            return await self._call(call, call_next)
        finally:
            call.dispatch = line

    async def _call(self, call: Call, call_next: CallNext) -> Result:
        budget = self._plugin.budget(call.provider)
        budget.earn(self._plugin.now())
        attempt = self._hedging if self._policy.hedged(call) else self._attempt
        try:
            return await attempt(call, call_next)
        except Exception as error:  # noqa: BLE001 - raised in the end, if no attempt succeeds
            failure = cause = error
        for tried in count(1):
            delay = self._backoff.delay(tried, asked_wait(failure))
            stopped = self._stopped(call, failure, tried, delay, budget)
            if stopped or delay is None:
                break
            self._plugin.retried(call, tried + 1, delay, failure)
            await self._plugin.sleep(delay)
            try:
                return await attempt(call, call_next)
            except Exception as error:  # noqa: BLE001 - as above
                failure = error
                if reached(error) or not reached(cause):
                    cause = error
        if isinstance(cause, ToolFailed):
            return cause.result
        raise cause if stopped == "final" and tried == 1 else with_attempts(cause, tried, stopped, failure)

    def _stopped(self, call: Call, failure: Exception, tried: int, delay: float | None, budget: Budget) -> str:
        """Why there is no further attempt; empty if there is one, which the budget has paid then."""
        now = self._plugin.now()
        if not may_succeed_later(failure) or call.dispatch.cancel_requested.is_set():
            return "final"
        if tried >= self._attempts:
            return "attempts"
        if delay is None:
            return "retryAfterMs"
        if call.deadline is not None and now + delay >= call.deadline:
            return "deadline"
        if not budget.spend(now):
            self._plugin.exhausted(call)
            return "budget"
        return ""

    async def _attempt(self, call: Call, call_next: CallNext) -> Result:
        result = await call_next(call)
        if self._tool_errors and classify(result, tool_errors=True) is Outcome.FAILURE:
            raise ToolFailed(result)
        return result

    async def _hedging(self, call: Call, call_next: CallNext) -> Result:
        """One attempt, with another beside it if it takes longer than usual."""
        plugin = self._plugin
        seen = plugin.seen(call)
        delay = plugin.delay(seen)
        began = plugin.now()
        if delay is not None and call.deadline is not None and began + delay >= call.deadline:
            delay = None

        async def wait() -> None:
            await plugin.sleep(delay or 0.0)

        def allowed() -> bool:
            if not plugin.budget(call.provider).spend(plugin.now()):
                return False
            plugin.doubled(call)
            return True

        async def attempt() -> Result:
            return await self._attempt(call, call_next)

        result = await (attempt() if delay is None else hedged(attempt, wait=wait, allowed=allowed))
        seen.add(plugin.now() - began)  # where the second one won, the first would have taken no less
        return result


def _where(call: Call) -> dict[str, Any]:
    return {"method": call.method, "provider": call.provider, "target": call.target}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
