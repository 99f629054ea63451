"""How long calls take: the one thing that is measured on the way of every call, and so the one that must cost nothing.

A series is found by what the call is as it stands (method, target, provider, error): one look into a dictionary, and
two additions. Only the first call of a series makes its labels. What clients can invent (names of tools, methods,
codes) is compared with what there is, and what there is not is `_OTHER`; URIs and principals are no labels.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from mcp_types import methods as spec
from opentelemetry import trace
from plughost import Call, CallNext, ErrorCode, Kind, Outcome, Result, classify

from plughost_metrics._ledger import Buckets, Distribution, Exemplar, Family, Label, Labels, logger

if TYPE_CHECKING:
    from plughost import Host

OTHER = "_OTHER"
"""What OpenTelemetry calls a value that is none of the known ones."""
TOOL_ERROR = "tool_error"
CANCELLED = "cancelled"
NAMED = {"tools/call": (Kind.TOOLS, "gen_ai.tool.name"), "prompts/get": (Kind.PROMPTS, "gen_ai.prompt.name")}
"""Method → the list with its targets, and the attribute that they are; other targets are URIs, and no labels."""
_SPECIFIED = {0, -32700, *range(-32603, -32599), *range(-32022, -32019), *range(-32003, -31999)}
"""With 0, which older SDK servers answer for an exception."""
CODES = frozenset({*_SPECIFIED, *map(int, ErrorCode)})
"""Error codes that have a meaning; others are an upstream's to invent."""
EXEMPLAR_EVERY = 1.0
"""Seconds between exemplars of one series."""

Key = tuple[str, str | None, str | None, str, str | None]
"""Method, name of the tool or prompt, provider, error, tenant."""


def error_of(result: Result | None, error: BaseException | None) -> str:
    """The value of `error.type`, as the conventions for MCP have it; empty without an error."""
    if error is None:
        return TOOL_ERROR if result is not None and result.get("isError") is True else ""
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    code = error.code if isinstance(error, MCPError) else INTERNAL_ERROR  # what the host makes of it
    return str(int(code)) if code in CODES else OTHER


class _Timer:
    """The distribution of one series, and when its next exemplar is due."""

    __slots__ = ("distribution", "due")

    def __init__(self, distribution: Distribution, due: float) -> None:
        self.distribution = distribution
        self.due = due


class CallTimes:
    """The duration of calls as one histogram, by what they are and how they ended.

    With `resolved`, only of calls that lead to a provider: a list that is merged from all of them is no provider's.
    """

    def __init__(
        self, family: Family, buckets: Buckets, host: Host, *, resolved: bool, tenant: bool, exemplars: bool
    ) -> None:
        self._family = family
        self._buckets = buckets
        self._host = host
        self._resolved = resolved
        self._tenant = tenant
        self._due = 0.0 if exemplars else float("inf")
        self._timers: dict[Key, _Timer] = {}
        self._time = host.clock.time
        self._now = host.clock.monotonic

    async def measure(self, call: Call, call_next: CallNext) -> Result:
        """Middleware: time what is inside."""
        begin = self._now()
        try:
            result = await call_next(call)
        except BaseException as error:
            self._took(call, begin, None, error)
            raise
        self._took(call, begin, result, None)
        return result

    def _took(self, call: Call, begin: float, result: Result | None, error: BaseException | None) -> None:
        """Count a call that began at `begin` and has just ended. Whatever goes wrong here, the call has its answer."""
        try:
            if not self._resolved or call.provider is not None:
                self._count(call, begin, result, error)
        except Exception:  # noqa: BLE001 - what fails here must not fail the call
            logger.exception("a call was not counted")

    def _count(self, call: Call, begin: float, result: Result | None, error: BaseException | None) -> None:
        now = self._now()
        method = call.method
        tenant = call.principal.tenant if self._tenant and call.principal is not None else None
        name = call.target if method in NAMED else None
        key = (method, name, call.provider, error_of(result, error), tenant)
        timer = self._timers.get(key) or self._timer(key, error)
        seconds = now - begin
        bucket = timer.distribution.record(seconds)
        if now >= timer.due:
            timer.due = now + EXEMPLAR_EVERY
            self._exemplify(timer.distribution, bucket, seconds)

    def _timer(self, key: Key, error: BaseException | None) -> _Timer:
        method, name, provider, what, tenant = key
        known = (
            method if method in spec.SPEC_CLIENT_METHODS else OTHER,
            name if name is None or name in self._host.generation.catalog.routes[NAMED[method][0]] else OTHER,
            provider,
            what,
            tenant,
        )
        timer = self._timers.get(known)
        if timer is None:
            labels = self._labels(known, classify(error=error) if error is not None else Outcome.SUCCESS)
            timer = _Timer(self._family.distribution(labels, self._buckets), self._due)
            if len(self._timers) < self._family.ledger.max_series:
                self._timers[known] = timer
        return timer

    @staticmethod
    def _labels(key: Key, outcome: Outcome) -> Labels:
        method, name, provider, what, tenant = key
        labels: dict[str, Label | None] = {
            "mcp.method.name": method,
            "plughost.outcome": outcome.value,
            "plughost.provider": provider,
            "error.type": what or None,
            "plughost.tenant": tenant,
        }
        if method in NAMED:
            labels[NAMED[method][1]] = name
        return tuple(sorted((key, value) for key, value in labels.items() if value is not None))

    def _exemplify(self, distribution: Distribution, bucket: int, seconds: float) -> None:
        """Keep the trace of a call, if it has one that somebody records."""
        context = trace.get_current_span().get_span_context()
        if context.is_valid and context.trace_flags.sampled:
            ids = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
            distribution.exemplars[bucket] = Exemplar(seconds, self._time(), *ids)
