"""Traces: a span for each call from client to upstream, as OpenTelemetry has them, exported over OTLP."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio
from opentelemetry.context import attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Span, set_span_in_context
from plughost import (
    Call,
    CallNext,
    Handler,
    HealthCheck,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    Result,
    hookimpl,
)

from plughost_tracing._attributes import CANCELLED, LONGEST, attributes_of, error_type, name_of
from plughost_tracing._config import TracingConfig
from plughost_tracing._export import Queue, Watched, make_exporter
from plughost_tracing._process import IN_CALL, installed
from plughost_tracing._sampling import parent_in, parent_in_headers
from plughost_tracing._spans import Begun, Spans

if TYPE_CHECKING:
    from plughost import Host

__all__ = ["TracingConfig", "TracingPlugin"]

logger = logging.getLogger("plughost.tracing")

_RECORDED: ContextVar[Span | None] = ContextVar("plughost_tracing_recorded", default=None)
"""The server span of the call that runs now, if its trace is sampled."""


class TracingPlugin(MCPPlugin[TracingConfig]):
    """Traces each call, the layers that take time and the calls to upstreams; no call waits for an export."""

    async def register(self, host: Host) -> None:
        config = self.config
        self._host = host
        self._now = host.clock.time
        self._uris = config.resource_uris
        name = config.service_name or host.settings.name
        resource = Resource.create({"service.name": name, "service.version": host.version, **config.attributes})
        self.exports = Watched(make_exporter(config), queue=config.queue, messages=config.messages)
        self._processor = Queue(config, self.exports)
        self.spans = Spans(resource, self._processor, sample=config.sample, follow=config.follow, errors=config.errors)
        self._installed = ExitStack()
        self._installed.enter_context(installed(self.spans.libraries))

    async def unregister(self) -> None:
        """Export what waits, within `timeout` and the host's own limit."""
        self._installed.close()
        exported = False
        try:
            with anyio.move_on_after(self.config.timeout):
                await anyio.to_thread.run_sync(self._processor.shutdown, abandon_on_cancel=True)
                exported = True
        finally:
            if not exported:
                logger.warning("%s: spans that %s did not take in time are lost", self.name, self.config.url)
                self.exports.shutdown()

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [
            Middleware(self.trace, Phase.OBSERVE),
            Middleware(self.provider, Phase.PROTECT, after=("retry", "circuit-breaker", "timeout", "bulkhead")),
        ]

    @hookimpl
    def plughost_layer(self, instance: str, phase: Phase, handler: Handler) -> Handler | None:
        if instance == self.name:
            return None
        least = int(self.config.layers * 1e9)
        attributes = {"plughost.phase": phase.name, "plughost.instance": instance}

        def layer(call: Call, call_next: CallNext) -> Awaitable[Result]:
            span = _RECORDED.get()
            return handler(call, call_next) if span is None else timed(call, call_next, span)

        async def timed(call: Call, call_next: CallNext, span: Span) -> Result:
            inside = 0
            begin = self._nanoseconds()

            async def onward(call: Call) -> Result:
                nonlocal inside
                entered = self._nanoseconds()
                try:
                    return await call_next(call)
                finally:
                    inside += self._nanoseconds() - entered

            try:
                return await handler(call, onward)
            finally:
                now = self._nanoseconds()
                own = now - begin - inside
                if own >= least:
                    more = {**attributes, "plughost.own_ms": own / 1e6}
                    self.spans.inside(span, f"layer {instance}", more, begin=begin, now=now)

        return layer

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("export", self.check)]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [Operation("show", self.show, summary="What was exported, and what was lost.")]

    async def trace(self, call: Call, call_next: CallNext) -> Result:
        """The server span. Should tracing itself fail, the call goes on without."""
        try:
            begun = self._begin(call)
        except Exception:
            logger.warning("%s: a call is not traced", self.name, exc_info=True)
            return await call_next(call)
        span = begun.span
        result: Result | None = None
        error: BaseException | None = None
        token = attach(set_span_in_context(span))
        marks = IN_CALL.set(True), _RECORDED.set(span if span.is_recording() else None)
        try:
            result = await call_next(call)
            return result
        except BaseException as raised:
            error = raised
            raise
        finally:
            IN_CALL.reset(marks[0])
            _RECORDED.reset(marks[1])
            detach(token)
            failed = error_type(result, error) not in {None, CANCELLED}
            if span.is_recording() or (failed and self.spans.errors):
                self._end(call, begun, result, error, failed=failed)

    def _begin(self, call: Call) -> Begun:
        parent = parent_in(call.meta) or (parent_in_headers(call.request.scope["headers"]) if call.request else None)
        now = self._nanoseconds()
        return Begun(self.spans.begin(call.method, parent, now), parent, now)

    def _end(
        self, call: Call, begun: Begun, result: Result | None, error: BaseException | None, *, failed: bool
    ) -> None:
        try:
            listed = self._host.generation.catalog.lists(call.target)
            found = attributes_of(call, result, error, listed=listed, uris=self._uris)
            name = name_of(call, listed=listed)
            if begun.span.is_recording():
                self.spans.end(begun.span, name, found, failed=failed, now=self._nanoseconds())
            else:
                self.spans.make_up(begun, name, found, now=self._nanoseconds())
        except Exception:
            logger.warning("%s: a span is lost", self.name, exc_info=True)

    async def provider(self, call: Call, call_next: CallNext) -> Result:
        """A span for each attempt at the provider."""
        span = _RECORDED.get()
        if span is None or call.provider is None:
            return await call_next(call)
        begin = self._nanoseconds()
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = await call_next(call)
            return result
        except BaseException as raised:
            error = raised
            raise
        finally:
            found = {"plughost.provider": call.provider, "mcp.method.name": call.method[:LONGEST]}
            if (kind := error_type(result, error)) is not None:
                found["error.type"] = kind
            self.spans.inside(span, f"provider {call.provider}", found, begin=begin, now=self._nanoseconds())

    async def check(self) -> None:
        """Raises if the last export failed."""
        if self.exports.failing:
            raise ConnectionError(f"spans do not reach {self.config.url}; {self.exports.lost} are lost so far")

    async def show(self, _: object) -> dict[str, object]:
        """What was exported, and what was lost."""
        exports = self.exports
        counted = {"exported": exports.exported, "lost": exports.lost, "dropped": exports.dropped}
        return {**counted, "waiting": exports.waiting, "failing": exports.failing}

    def _nanoseconds(self) -> int:
        return int(self._now() * 1e9)
