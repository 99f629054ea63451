"""The ledger and the OpenTelemetry API on it, against the OpenTelemetry SDK as reference."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider as SDKProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from plughost_metrics._instruments import SECONDS, LedgerProvider, labels_of, process_ledger
from plughost_metrics._ledger import OVERFLOW, Distribution, Kind, Labels, Ledger, Metric, merged

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["counter", "up_down", "gauge", "histogram"]),
        st.sampled_from([0.0, 0.001, 0.0015, 1, 5.0, 300.0, 301]),
        st.sampled_from([None, {"a": "x"}, {"b": 1, "a": "y"}, {"a": "y", "b": 1}, {"c": True}]),
    ),
    max_size=30,
)


def play(provider: metrics.MeterProvider, steps: Iterable[tuple[str, float, Any]]) -> None:
    meter = provider.get_meter("test")
    measure: dict[str, Callable[..., None]] = {
        "counter": meter.create_counter("counter").add,
        "up_down": meter.create_up_down_counter("up_down").add,
        "gauge": meter.create_gauge("gauge").set,
        "histogram": meter.create_histogram("histogram", explicit_bucket_boundaries_advisory=SECONDS).record,
    }
    for name, value, attributes in steps:
        measure[name](value, attributes)


def numbers(ledger: Ledger) -> dict[str, dict[Labels, Any]]:
    """What it holds, comparable."""
    return {metric.name: {labels: plain(value) for labels, value in metric.series.items()} for metric in ledger.now()}


def plain(value: Any) -> Any:
    return (tuple(value.counts), value.total) if isinstance(value, Distribution) else value


def reference(steps: Iterable[tuple[str, float, Any]]) -> dict[str, dict[Labels, Any]]:
    """What the SDK makes of the same measurements."""
    reader = InMemoryMetricReader()
    provider = SDKProvider(metric_readers=[reader])
    play(provider, steps)
    data = reader.get_metrics_data()
    found: dict[str, dict[Labels, Any]] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
        points: Any = metric.data.data_points
        found[metric.name] = {
            labels_of(point.attributes): (tuple(point.bucket_counts), point.sum)
            if metric.name == "histogram"
            else point.value
            for point in points
        }
    provider.shutdown()
    return found


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_measures_what_the_sdk_measures(steps: list[tuple[str, float, Any]]) -> None:
    """Whatever is measured through the API ends up as the OpenTelemetry SDK would have it."""
    ledger = Ledger()
    ledger.open()
    play(LedgerProvider(ledger), steps)
    assert numbers(ledger) == reference(steps)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=3))
def test_merged_processes_are_one(parts: list[list[tuple[str, float, Any]]]) -> None:
    """Counters, amounts and distributions of several processes add up to those of one that measured all."""
    parts = [[step for step in part if step[0] != "gauge"] for part in parts]
    snapshots = []
    for part in (*parts, [step for some in parts for step in some]):
        ledger = Ledger()
        ledger.open()
        play(LedgerProvider(ledger), part)
        snapshots.append(ledger.now())
    *several, one = snapshots

    def rounded(metrics: list[Metric]) -> Any:
        return {
            (metric.name, labels): (value.counts, round(value.total, 6))
            if isinstance(value, Distribution)
            else round(value, 6)
            for metric in metrics
            for labels, value in metric.series.items()
        }

    assert rounded(merged(several)) == rounded(one)


def test_highest_gauge_stands_for_all() -> None:
    """Of gauges of several processes the highest is shown: one open breaker is an open breaker."""
    one, two = (Metric("state", Kind.GAUGE, series={(): level}) for level in (3.0, 0.0))
    assert merged([[two], [one]])[0].series == {(): 3.0}


def test_distributions_of_other_buckets_are_left_out() -> None:
    """After a change of buckets the numbers of workers that still have the old ones are not mixed in."""
    new, old = Distribution((1.0,)), Distribution((2.0,))
    new.record(0.5)
    old.record(0.5)
    (metric,) = merged([[Metric("d", Kind.HISTOGRAM, series={(): value})] for value in (new, old)])
    assert plain(metric.series[()]) == ((1, 0), 0.5)


def test_series_are_bounded(ledger: Ledger) -> None:
    """Beyond `max_series` everything is counted in one series, and nothing is lost."""
    ledger.open()
    ledger.max_series = 10
    counter = LedgerProvider(ledger).get_meter("test").create_counter("c")
    for number in range(100):
        counter.add(1, {"user": str(number)})
    counter.add(1, {"user": "0"})
    (metric,) = ledger.now()
    assert len(metric.series) == 10
    assert metric.series[OVERFLOW] == 91
    assert metric.series[("user", "0"),] == 2


class TestLifetime:
    def test_records_while_it_is_open(self, ledger: Ledger) -> None:
        """Closed it records nothing; opened anew it starts at zero; the same instruments go on."""
        counter = LedgerProvider(ledger).get_meter("test").create_counter("c")
        counter.add(1)
        assert numbers(ledger) == {}
        for _ in range(3):
            ledger.open()
            counter.add(2)
            assert numbers(ledger) == {"c": {(): 2}}
            ledger.close()
        assert numbers(ledger) == {}

    def test_two_users(self, ledger: Ledger) -> None:
        """It stays open, with its numbers, until the last user leaves: so a replaced plugin loses nothing."""
        counter = LedgerProvider(ledger).get_meter("test").create_counter("c")
        ledger.open()
        counter.add(1)
        ledger.open()
        ledger.close()
        counter.add(1)
        assert numbers(ledger) == {"c": {(): 2}}

    def test_earlier_instruments_follow(self, ledger: Ledger) -> None:
        """Instruments that plugins made before there was a provider are recorded all the same."""
        early = metrics.get_meter("plugin").create_counter("early")
        found, complete = process_ledger()
        assert (found, complete) == (ledger, True)
        ledger.open()
        early.add(1)
        assert numbers(ledger) == {"early": {(): 1}}
        assert process_ledger() == (ledger, True)

    def test_provider_of_the_application_stays(self) -> None:
        """Where the application set a provider of its own it keeps it, and the caller is told."""
        own = SDKProvider()
        metrics.set_meter_provider(own)
        assert process_ledger()[1] is False
        assert metrics.get_meter_provider() is own
        own.shutdown()


class Watcher:
    def level(self, options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(7, {"of": "watcher"})]


class TestObservables:
    def test_who_is_gone_is_asked_no_more(self, ledger: Ledger) -> None:
        """A bound method does not keep its plugin alive, and its numbers go with it."""
        ledger.open()
        watcher = Watcher()
        LedgerProvider(ledger).get_meter("test").create_observable_gauge("level", [watcher.level])
        assert numbers(ledger) == {"level": {(("of", "watcher"),): 7}}
        gone = weakref.ref(watcher)
        del watcher
        gc.collect()
        assert gone() is None
        assert numbers(ledger) == {}

    def test_several_add_up(self, ledger: Ledger) -> None:
        """Counters of several instances of one plugin add up; of gauges the last counts. Generators are asked too."""
        ledger.open()

        def ask(value: int) -> Callable[[CallbackOptions], Iterable[Observation]]:
            return lambda _: [Observation(value)]

        def stream() -> Generator[Iterable[Observation], CallbackOptions, None]:
            yield []
            while True:
                yield [Observation(10)]

        meter = LedgerProvider(ledger).get_meter("test")
        meter.create_observable_counter("sum", [ask(1), ask(2), stream()])
        meter.create_observable_up_down_counter("amount", [ask(1), ask(-3)])
        meter.create_observable_gauge("last", [ask(1), ask(2)])
        assert numbers(ledger) == {"amount": {(): -2}, "last": {(): 2}, "sum": {(): 13}}

    def test_one_that_fails_hides_no_other(self, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
        """A callback that raises loses its own numbers only; the log names the metric."""
        ledger.open()

        def fail(_: CallbackOptions) -> Iterable[Observation]:
            raise RuntimeError("no")

        meter = LedgerProvider(ledger).get_meter("test")
        meter.create_observable_gauge("broken", [fail, lambda _: [Observation(1)]])
        assert numbers(ledger) == {"broken": {(): 1}}
        assert "broken" in caplog.text


def test_what_cannot_be_is_logged(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A negative amount, and a name that is another kind already, never raise: they are logged and left out."""
    ledger.open()
    meter = LedgerProvider(ledger).get_meter("test")
    with caplog.at_level(logging.WARNING):
        meter.create_counter("c").add(-1)
        meter.create_histogram("h").record(-1)
        meter.create_gauge("c").set(5)
        meter.create_observable_gauge("h", [lambda _: [Observation(1)]])
    assert numbers(ledger) == {}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
