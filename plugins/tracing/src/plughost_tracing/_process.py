"""The tracer provider of the process: it can be set only once, and this plugin comes and goes.

So what is set is a switch, which hands every span on to the provider in force, or to nobody. A span of kind SERVER that
a library opens inside a call of the host (in-process servers bring a tracing of their own) is not opened: the host's
span is in its place, so that there is exactly one for each call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, NoOpTracer, Span, SpanKind, Tracer, TracerProvider, get_current_span

# The interface's own decorator: what it makes works in `with` and as a decorator of functions and coroutines alike.
from opentelemetry.util._decorator import _agnosticcontextmanager

logger = logging.getLogger("plughost.tracing")

IN_CALL: ContextVar[bool] = ContextVar("plughost_tracing_in_call", default=False)
"""Whether what runs now belongs to a call that has its server span."""

_NOBODY = NoOpTracer()


class Switch(TracerProvider):
    """Hands on to the provider in force: of those installed, the newest."""

    def __init__(self) -> None:
        self.installed: list[TracerProvider] = []

    @property
    def current(self) -> TracerProvider | None:
        return self.installed[-1] if self.installed else None

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return SwitchedTracer(self, args, kwargs)


class SwitchedTracer(Tracer):
    """Looks its tracer up anew when another provider is in force."""

    def __init__(self, switch: Switch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._switch = switch
        self._arguments = args, kwargs
        self._provider: TracerProvider | None = None
        self._tracer: Tracer = _NOBODY

    def start_span(
        self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL, *args: Any, **kwargs: Any
    ) -> Span:
        if kind is SpanKind.SERVER and IN_CALL.get():
            return NonRecordingSpan(get_current_span().get_span_context())
        return self._found().start_span(name, context, kind, *args, **kwargs)

    @_agnosticcontextmanager
    def start_as_current_span(  # noqa: PLR0917 - the interface's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - the interface's signature
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - the interface's signature
        end_on_exit: bool = True,  # noqa: FBT001, FBT002 - the interface's signature
    ) -> Iterator[Span]:
        how = {"record_exception": record_exception, "set_status_on_exception": set_status_on_exception}
        span = self.start_span(name, context, kind, attributes, links, start_time, **how)
        with trace.use_span(span, end_on_exit=end_on_exit, **how) as current:
            yield current

    def _found(self) -> Tracer:
        provider = self._switch.current
        if provider is not self._provider:
            args, kwargs = self._arguments
            self._tracer = _NOBODY if provider is None else provider.get_tracer(*args, **kwargs)
            self._provider = provider
        return self._tracer


_SWITCH = Switch()


@contextmanager
def installed(provider: TracerProvider) -> Iterator[None]:
    """Have the spans of the whole process go to `provider` during the block.

    An application that has set a tracer provider of its own keeps it: the spans of libraries go there.
    """
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(_SWITCH)
    elif trace.get_tracer_provider() is not _SWITCH:
        logger.warning("this application has a tracer provider of its own; the spans of libraries go there")
    _SWITCH.installed.append(provider)
    try:
        yield
    finally:  # not always the newest: a replacement is there before what it replaces leaves, and may be refused
        _SWITCH.installed.remove(provider)
