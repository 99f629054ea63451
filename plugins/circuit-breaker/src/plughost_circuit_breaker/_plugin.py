"""The plugin: hooks, and what of a call the breakers need to know."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Iterable

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, REQUEST_TIMEOUT
from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    HealthCheck,
    Host,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Outcome,
    Phase,
    Refusal,
    Result,
    classify,
    hookimpl,
)
from plughost_redis import RedisBackend

from plughost_circuit_breaker._board import Blocked, Board, Fault, Passage
from plughost_circuit_breaker._breaker import Breaker, Mode, State
from plughost_circuit_breaker._config import CircuitBreakerConfig
from plughost_circuit_breaker._metrics import Tally
from plughost_circuit_breaker._operations import Operations
from plughost_circuit_breaker._replicas import Replicas

logger = logging.getLogger("plughost.circuit_breaker")

TIMEOUTS = frozenset({REQUEST_TIMEOUT, ErrorCode.TIMEOUT})
ANSWERS = frozenset({INTERNAL_ERROR, 0})
"""Failures that the provider answered with itself. 0 is what older SDK servers answer for an unhandled exception."""
SLOW_SHARE = 0.8
"""With `slow_call = "timeout"`, a call is slow from this share of its time on; one that ended before it at the deadline
had no fair chance."""
MOMENT = 0.01
"""Seconds that a timer may fire too early."""
EVENT_OF = {
    State.OPEN: EventType.BREAKER_OPENED,
    State.HALF_OPEN: EventType.BREAKER_HALF_OPENED,
    State.RECOVERING: EventType.BREAKER_RECOVERING,
    State.CLOSED: EventType.BREAKER_CLOSED,
}


class CircuitBreakerPlugin(MCPPlugin[CircuitBreakerConfig]):
    """Stands between retry and timeout: each attempt counts by itself, and an open breaker ends the retries."""

    backends = ("memory", "redis")

    async def register(self, host: Host) -> None:
        config = self.config
        self._publish = host.publish
        self._now = host.clock.monotonic
        self._board = Board(
            config.policy, per=config.per, limit=config.max_breakers, random=random.random, listener=self._moved
        )
        self._bind(config)
        self._operations = Operations(host, self._board)
        self._replicas: Replicas | None = None
        self._moves = metrics.get_meter("plughost.circuit_breaker").create_counter(
            "plughost.circuit_breaker.transitions", unit="{transition}", description="Changes of state, by new state."
        )
        if not config.url.is_memory:
            backend = RedisBackend(config.url, name=self.name, host=host, prefix="plughost:circuit-breaker")
            self._replicas = Replicas(backend, self._board, self._now)
            await self._replicas.start()
        self._tally = Tally(self.name, self._board, host.clock)

    async def unregister(self) -> None:
        self._tally.close()
        if self._replicas is not None:
            await self._replicas.aclose()

    async def reconfigure(self, config: CircuitBreakerConfig) -> bool:
        """Keep states and counts; another `url` is another company of replicas, and starts anew."""
        if config.url != self.config.url:
            return False
        self._board.apply(config.policy, per=config.per, limit=config.max_breakers, now=self._now())
        self._bind(config)
        return True

    def _bind(self, config: CircuitBreakerConfig) -> None:
        """Take out of the config what each call needs: a model's attributes are slow to read."""
        self._tool_errors = config.tool_errors
        self._by_deadline = config.slow_call == "timeout"
        self._slow_call = config.slow_call if isinstance(config.slow_call, float) else math.inf

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.protect, Phase.PROTECT, after=("retry",))]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return self._operations.all()

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [self._replicas.backend.health_check()] if self._replicas is not None else []

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        """Follow the health of providers, which knows sooner than calls do."""
        if event.type == EventType.PROVIDER_UP:
            for breaker in self._board.of_provider(event.subject):
                breaker.provider_up(self._now())
        elif event.type == EventType.PROVIDER_DOWN:
            for breaker in self._board.of_provider(event.subject):
                breaker.provider_down(self._now(), f"the provider is down: {event.details.get('reason', '')}")

    # -- calls --------------------------------------------------------------------------------------------------------

    async def protect(self, call: Call, call_next: CallNext) -> Result:
        """Make the call if its breakers let it through, and tell them how it ended. A list is of many providers."""
        provider = call.provider
        if provider is None:
            return await call_next(call)
        began = self._now()
        try:
            passage = self._board.enter(provider, call.local_name if call.method == "tools/call" else None, began)
        except Blocked as blocked:
            raise self._refusal(call, blocked.breaker, began) from None
        if passage is None:
            return await call_next(call)
        try:
            result = await call_next(call)
        except Exception as error:
            self._failed(passage, call, began, error)
            raise
        except BaseException as error:
            self._abandoned(passage, call, error)
            raise
        now = self._now()
        failed = self._tool_errors and classify(result, tool_errors=True) is Outcome.FAILURE
        passage.close(now, Fault.APPLICATION if failed else None, slow=self._is_slow(call, began, now))
        return result

    def _failed(self, passage: Passage, call: Call, began: float, error: Exception) -> None:
        now = self._now()
        if classify(error=error) is not Outcome.FAILURE or _cut_short(call, began, now, error):
            passage.release()
            return
        passage.close(now, _fault_of(error), slow=self._is_slow(call, began, now))

    def _abandoned(self, passage: Passage, call: Call, error: BaseException) -> None:
        """A cancelled call counts for nothing, unless it was out of time: then something outside gave it up."""
        now = self._now()
        if isinstance(error, asyncio.CancelledError) and call.deadline is not None and now >= call.deadline:
            passage.close(now, Fault.TIMEOUT, slow=True)
        else:
            passage.release()

    def _is_slow(self, call: Call, began: float, now: float) -> bool:
        if not self._by_deadline:
            return now - began >= self._slow_call
        deadline = (
            call.deadline if call.attempt_deadline is None else call.attempt_deadline
        )  # the timeout inside set it
        return deadline is not None and now - began >= SLOW_SHARE * (deadline - began) > 0

    def _refusal(self, call: Call, breaker: Breaker, now: float) -> Refusal:
        provider, tool = breaker.key
        details = {"provider": provider, **({} if tool is None else {"tool": tool})}
        wait = breaker.retry_after(now)
        forced = breaker.mode is Mode.FORCED_OPEN
        state = Mode.FORCED_OPEN.value if forced else breaker.state.value
        if self.config.mode == "enforce":
            self._tally.refused(breaker.key)
            told = {"method": call.method, **details, "code": ErrorCode.CIRCUIT_OPEN.value, "state": state}
            self._publish(HostEvent(EventType.REFUSED, self.name, told))
        remedy = "an operator has to close it" if wait is None else f"call again in {max(wait, 0.001):.3g} s"
        return Refusal(
            ErrorCode.CIRCUIT_OPEN,
            f"The circuit of {_name_of(breaker)} is {breaker.state.replace('_', '-')} ({breaker.reason}); {remedy}",
            details={**details, "state": state},
            retry_after_ms=None if wait is None else math.ceil(wait * 1000),
        )

    # -- transitions --------------------------------------------------------------------------------------------------

    def _moved(self, breaker: Breaker, now: float) -> None:
        provider, tool = breaker.key
        state, reason = breaker.state, breaker.reason
        logger.log(
            logging.WARNING if state is State.OPEN else logging.INFO,
            "circuit of %s is %s: %s",
            _name_of(breaker),
            state.value,
            reason,
        )
        wait = math.ceil((breaker.until - now) * 1000) if state is State.OPEN and breaker.until < math.inf else None
        details = {
            "provider": provider,
            "tool": tool,
            "mode": breaker.mode.value,
            "reason": reason,
            "retryAfterMs": wait,
        }
        self._publish(HostEvent(EVENT_OF[state], self.name, details))
        where = {"plughost.plugin": self.name, "plughost.provider": provider}
        self._moves.add(1, {**where, "plughost.circuit_breaker.state": state.value})
        if self._replicas is not None:
            self._replicas.moved(breaker, now)


def _cut_short(call: Call, began: float, now: float, error: Exception) -> bool:
    """Whether the call's deadline ended an attempt that began shortly before it: that is not the provider's fault."""
    timed_out = isinstance(error, MCPError) and error.code == ErrorCode.TIMEOUT
    if not timed_out or call.deadline is None or call.attempt_deadline is None or now < call.deadline - MOMENT:
        return False
    return now - began < SLOW_SHARE * (call.attempt_deadline - began)


def _fault_of(error: Exception) -> Fault:
    if isinstance(error, MCPError):
        return (
            Fault.TIMEOUT if error.code in TIMEOUTS else Fault.APPLICATION if error.code in ANSWERS else Fault.TRANSPORT
        )
    return Fault.TIMEOUT if isinstance(error, TimeoutError) else Fault.TRANSPORT


def _name_of(breaker: Breaker) -> str:
    provider, tool = breaker.key
    return f"provider {provider!r}" if tool is None else f"tool {tool!r} of provider {provider!r}"
