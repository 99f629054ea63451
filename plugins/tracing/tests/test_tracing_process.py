"""The tracer provider of the process."""

from __future__ import annotations

import gc
import weakref

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from plughost_tracing._process import IN_CALL, installed


def recorder() -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def test_one_tracer_follows_the_provider_in_force() -> None:
    """A library gets its tracer once; its spans go where they belong at the moment, or nowhere."""
    tracer = trace.get_tracer("library")
    (first, to_first), (second, to_second) = recorder(), recorder()
    with installed(first):
        tracer.start_span("one").end()
    tracer.start_span("nowhere").end()
    with installed(second), tracer.start_as_current_span("two"):
        pass
    assert (names(to_first), names(to_second)) == (["one"], ["two"])


def test_a_replacement_stays_when_what_it_replaces_leaves() -> None:
    """A plugin instance is registered before the one of the same name is released."""
    (old, _), (new, to_new) = recorder(), recorder()
    leaving = installed(old)
    leaving.__enter__()
    with installed(new):
        leaving.__exit__(None, None, None)
        trace.get_tracer("library").start_span("kept").end()
    assert names(to_new) == ["kept"]


def test_what_a_replacement_replaced_is_back_when_that_is_undone() -> None:
    """A changed config that is refused leaves the former instance in force."""
    (old, to_old), (new, _) = recorder(), recorder()
    with installed(old):
        with installed(new):
            pass
        trace.get_tracer("library").start_span("kept").end()
    assert names(to_old) == ["kept"]


def test_a_provider_that_left_is_not_kept() -> None:
    """Nothing refers to it once a span was started without it."""
    provider, _ = recorder()
    tracer = trace.get_tracer("library")
    with installed(provider):
        tracer.start_span("one").end()
    tracer.start_span("two").end()
    left = weakref.ref(provider)
    del provider
    gc.collect()
    assert left() is None


def test_a_server_span_inside_a_call_is_not_opened() -> None:
    """The host's is there already; what a library opens inside its own becomes a child of the host's."""
    provider, exporter = recorder()
    with installed(provider), trace.get_tracer("host").start_as_current_span("ours") as ours:
        mark = IN_CALL.set(True)
        with trace.get_tracer("fastmcp").start_as_current_span("theirs", kind=SpanKind.SERVER):
            trace.get_tracer("tool").start_span("work").end()
        IN_CALL.reset(mark)
    assert names(exporter) == ["work", "ours"]
    [work, _] = exporter.get_finished_spans()
    assert work.parent is not None
    assert work.parent.span_id == ours.get_span_context().span_id


@pytest.mark.anyio
async def test_the_decorator_works_on_coroutines() -> None:
    """Each call of a decorated coroutine is a span that lasts as long as it does."""
    provider, exporter = recorder()

    @trace.get_tracer("tool").start_as_current_span("decorated")
    async def work() -> None:
        await anyio.lowlevel.checkpoint()

    with installed(provider):
        await work()
        await work()
    assert names(exporter) == ["decorated", "decorated"]
