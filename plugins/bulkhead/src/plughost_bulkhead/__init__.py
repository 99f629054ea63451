"""Concurrency limits for Plughost, per provider and per tenant, with a bounded and fair queue.

    [plugins.bulkhead]
    limit = 32
    max_wait = "2s"

The algorithm is in `_bulkhead.py`; this is its place in the pipeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    Refusal,
    Result,
    hookimpl,
)
from pydantic import BaseModel

from plughost_bulkhead._bulkhead import Bound, Bulkhead, Compartment, Lane, Party, Verdict
from plughost_bulkhead._config import BulkheadConfig, LimitTable
from plughost_bulkhead._metrics import meter, refused

if TYPE_CHECKING:
    from plughost import Host

__all__ = ["BulkheadConfig", "BulkheadPlugin", "LimitTable"]

METHODS = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
AHEAD = 0.01
"""Seconds before a deadline that a wait ends: else the call would end as a timeout, and its provider would be blamed
for a call that it never got."""
DIMENSIONS = ("provider", "tool", "tenant", "principal")
Caller: TypeAlias = tuple[str | None, str | None, str | None, tuple[str, str] | None]
"""Who calls what, by `DIMENSIONS`, as far as the limits or fairness need it."""


class BulkheadPlugin(MCPPlugin[BulkheadConfig]):
    """Stands innermost in PROTECT: what is in flight here is in flight at the provider."""

    def __init__(self, config: BulkheadConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self._take(self.config)
        self._bulkhead = Bulkhead(_bounds(self.config), weights=self.config.weights)

    async def register(self, host: Host) -> None:
        self._now = host.clock.monotonic
        self._publish = host.publish
        meter.watch(self)

    async def unregister(self) -> None:
        meter.unwatch(self)

    async def reconfigure(self, config: BulkheadConfig) -> bool:
        """Change numbers in place; what is counted together cannot change while calls are counted."""
        if [rule.per for rule in config.rules] != [rule.per for rule in self.config.rules]:
            return False
        self._take(config)
        self._bulkhead.rebound(_bounds(config), weights=config.weights)
        return True

    def _take(self, config: BulkheadConfig) -> None:
        """Bind what each call needs."""
        named = {dimension for rule in config.rules for dimension in rule.per}
        self._by_tool, self._by_principal = "tool" in named, "principal" in named
        self._picks = [[DIMENSIONS.index(dimension) for dimension in rule.per] for rule in config.rules]
        self._max_wait = config.max_wait
        self._observing = config.mode == "observe"

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        outside = ("retry", "hedge", "circuit-breaker", "timeout")
        return [Middleware(self.hold, Phase.PROTECT, methods=METHODS, after=outside)]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [Operation("show", self.show, summary="Calls in flight and waiting, by limit and by who they are from")]

    # -- a call -------------------------------------------------------------------------------------------------------

    async def hold(self, call: Call, call_next: CallNext) -> Result:
        """Hand the call on while it holds a slot of each limit."""
        bulkhead, now = self._bulkhead, self._now
        caller = self._caller(call)
        lane = bulkhead.lane(caller) or bulkhead.open(caller, _party(caller), self._keys(caller))
        if not bulkhead.enter(lane):
            await self._wait(call, lane)
        began = now()
        try:
            return await call_next(call)
        finally:
            bulkhead.leave(lane, now() - began)

    def _caller(self, call: Call) -> Caller:
        tool = (call.local_name if call.method == "tools/call" else call.method) if self._by_tool else None
        who = call.principal
        if who is None:
            return call.provider, tool, None, None
        person = (who.issuer, who.subject) if self._by_principal or who.tenant is None else None
        return call.provider, tool, who.tenant, person

    def _keys(self, caller: Caller) -> list[Hashable]:
        return [tuple(caller[index] for index in picks) for picks in self._picks]

    async def _wait(self, call: Call, lane: Lane) -> None:
        """Return once the call holds its slots.

        Raises:
            Refusal: The queue is full, or the call waited as long as it may.
        """
        seconds, limit = self._max_wait, "wait_limit"
        for deadline in (call.deadline, call.attempt_deadline):
            if deadline is not None and (left := deadline - self._now() - AHEAD) < seconds:
                seconds, limit = left, "deadline"
        if seconds <= 0:
            raise self._refusal(call, lane, limit if limit == "deadline" else "queue_full")
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        waiter = self._bulkhead.wait(lane, partial(_wake, woken))
        if waiter is None:
            raise self._refusal(call, lane, "queue_full")
        timer = loop.call_later(seconds, self._bulkhead.withdraw, waiter)
        began = self._now()
        try:
            await woken
        except BaseException:  # cancelled: perhaps in the moment that a slot was handed over
            self._bulkhead.withdraw(waiter)
            if waiter.verdict is Verdict.ADMITTED:
                self._bulkhead.leave(lane)
            raise
        finally:
            timer.cancel()
        if waiter.verdict is not Verdict.ADMITTED:
            reason = limit if waiter.verdict is Verdict.EXPIRED else "queue_full"
            raise self._refusal(call, lane, reason, waited=self._now() - began)

    def _refusal(self, call: Call, lane: Lane, reason: str, *, waited: float = 0.0) -> Refusal:
        full = lane.full
        rule = self.config.rules[full.rule]
        whose = _whose(rule, full.key)
        if not self._observing:
            details = {"method": call.method, "provider": call.provider, "code": ErrorCode.BULKHEAD_FULL.value}
            self._publish(HostEvent(EventType.REFUSED, self.name, {**details, "reason": reason}))
            labels = {"plughost.plugin": self.name, "plughost.provider": call.provider or ""}
            refused.add(1, {**labels, "plughost.bulkhead.reason": reason})
        what = {
            "queue_full": f"and {full.waiting} wait already",
            "wait_limit": f"and none ended within {waited:.3g} s",
            "deadline": "and none ended before the deadline of this one",
        }[reason]
        soon = full.estimate()
        return Refusal(
            ErrorCode.BULKHEAD_FULL,
            f"Too many calls at once ({', '.join(f'{key} {value!r}' for key, value in whose.items())}): "
            f"{full.in_flight} in flight, {what}; try again later",
            details={"reason": reason, "limit": rule.limit, "per": whose, "waitedMs": round(waited * 1000)},
            retry_after_ms=None if soon is None else max(1, round(soon * 1000)),
        )

    # -- what operators see -------------------------------------------------------------------------------------------

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """The compartments that somebody is in or waits for."""
        del parameters
        rules = self.config.rules
        return {
            "limits": [
                {
                    "per": _whose(rules[item.rule], item.key),
                    "limit": rules[item.rule].limit,
                    "in_flight": item.in_flight,
                    "queued": item.waiting,
                    "parties": [
                        {**_described(party), "in_flight": share.in_flight, "queued": share.waiting}
                        for party, share in item.shares.items()
                        if share.in_flight or share.waiting
                    ],
                }
                for item in self._bulkhead
                if not item.idle
            ]
        }

    def labelled(self) -> Iterable[tuple[Compartment, dict[str, str]]]:
        """What metrics read. Tenants, tools and principals are no labels: they would be without bound."""
        for item in self._bulkhead:
            rule = self.config.rules[item.rule]
            provider = str(_whose(rule, item.key).get("provider", ""))
            yield item, {"plughost.provider": provider, "plughost.bulkhead.per": " ".join(rule.per)}


def _party(caller: Caller) -> Party:
    """Who is treated fairly: the tenant; without one the principal; all whom nobody authenticated are one."""
    return caller[3] if caller[2] is None else caller[2]


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():  # it is, when the call was cancelled and does not know yet
        woken.set_result(None)


def _bounds(config: BulkheadConfig) -> list[Bound]:
    """The bounds of each limit. Who only observes lets what would wait pass, and counts it."""
    if config.mode == "observe":
        return [Bound(rule.limit + rule.max_queue, 0) for rule in config.rules]
    return [Bound(rule.limit, rule.max_queue) for rule in config.rules]


def _whose(rule: LimitTable, key: Any) -> dict[str, str | None]:
    return {dimension: _name(value) for dimension, value in zip(rule.per, key, strict=True)}


def _described(party: Party) -> dict[str, Any]:
    if party is None:
        return {"anonymous": True}
    return {"principal" if isinstance(party, tuple) else "tenant": _name(party)}


def _name(value: Any) -> str | None:
    """A provider, tool, tenant, or the subject of a principal."""
    name: str | None = value[1] if isinstance(value, tuple) else value
    return name
