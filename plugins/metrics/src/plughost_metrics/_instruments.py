"""The OpenTelemetry metrics API, on the ledger: whatever a plugin counts through the API ends up there.

The API has one global provider a process, which can be set once. This one is set when the first `plughost-metrics`
registers, and stays: it keeps numbers only while the ledger is open, its instruments refer to no plugin, and those made
before it was set follow (the API's proxies see to that). So plugins come and go, this one too, as often as they like.

Why not the OpenTelemetry SDK's provider below: measured side by side, one `add` costs there 4 to 8 µs and one here 1;
its provider cannot be replaced or restarted in a process; several workers cannot be merged. It is the reference of the
tests, and brings the types that the OTLP exporter takes.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, CallbackT, MeterProvider, Observation
from opentelemetry.metrics import _Gauge as APIGauge
from opentelemetry.metrics import _NoOpGauge as NoOpGauge
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.util.types import Attributes

from plughost_metrics._ledger import Family, Kind, Labels, Ledger, Observe, logger

DEFAULT_BOUNDS = (0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0)
"""The OpenTelemetry specification's, for histograms that advise no others."""
SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Those of the OpenTelemetry conventions for MCP, and two below: tools in process answer within a millisecond."""
NOTHING: Labels = ()


def labels_of(attributes: Attributes) -> Labels:
    """Attributes as the ledger keeps them: in the order of their names; a list as text."""
    if not attributes:
        return NOTHING
    if len(attributes) == 1:
        ((name, value),) = attributes.items()
        return ((name, value if isinstance(value, str | bool | int | float) else str(value)),)
    return tuple(
        (name, value if isinstance(value, str | bool | int | float) else str(value))
        for name, value in sorted(attributes.items())
    )


class _Instrument:
    """What all kinds have in common. Measuring never raises: who measures has other worries."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._ledger = family.ledger

    def _refuse(self, value: float) -> None:
        logger.warning("%s only takes what is not negative, and was given %r", self._family.name, value)


class _Counter(_Instrument, metrics.Counter):
    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        del context
        if amount < 0:
            self._refuse(amount)
        elif self._ledger.recording:
            self._family.add(amount, labels_of(attributes))


class _UpDownCounter(_Instrument, metrics.UpDownCounter):
    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        del context
        if self._ledger.recording:
            self._family.add(amount, labels_of(attributes))


class _Gauge(_Instrument, APIGauge):
    def set(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        del context
        if self._ledger.recording:
            self._family.set(amount, labels_of(attributes))


class _Histogram(_Instrument, metrics.Histogram):
    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        del context
        if amount < 0:
            self._refuse(amount)
        elif self._ledger.recording:
            self._family.record(amount, labels_of(attributes))


class _ObservableCounter(_Instrument, metrics.ObservableCounter):
    pass


class _ObservableUpDownCounter(_Instrument, metrics.ObservableUpDownCounter):
    pass


class _ObservableGauge(_Instrument, metrics.ObservableGauge):
    pass


class _Meter(metrics.Meter):
    def __init__(self, ledger: Ledger, name: str, version: str | None, schema_url: str | None) -> None:
        super().__init__(name, version, schema_url)
        self._ledger = ledger

    def create_counter(self, name: str, unit: str = "", description: str = "") -> metrics.Counter:
        family = self._ledger.family(name, Kind.COUNTER, unit, description)
        return _Counter(family) if family else metrics.NoOpCounter(name, unit, description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> metrics.UpDownCounter:
        family = self._ledger.family(name, Kind.UP_DOWN, unit, description)
        return _UpDownCounter(family) if family else metrics.NoOpUpDownCounter(name, unit, description)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> APIGauge:
        family = self._ledger.family(name, Kind.GAUGE, unit, description)
        return _Gauge(family) if family else NoOpGauge(name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> metrics.Histogram:
        family = self._ledger.family(name, Kind.HISTOGRAM, unit, description)
        if family is None:
            return metrics.NoOpHistogram(name, unit, description)
        default = SECONDS if unit == "s" else DEFAULT_BOUNDS
        bounds = tuple(explicit_bucket_boundaries_advisory or family.buckets.bounds or default)
        if bounds != family.buckets.bounds:
            family.divide(bounds)
        return _Histogram(family)

    def create_observable_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableCounter:
        family = self._observed(name, Kind.COUNTER, callbacks, unit, description)
        return _ObservableCounter(family) if family else metrics.NoOpObservableCounter(name, callbacks)

    def create_observable_up_down_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableUpDownCounter:
        family = self._observed(name, Kind.UP_DOWN, callbacks, unit, description)
        return _ObservableUpDownCounter(family) if family else metrics.NoOpObservableUpDownCounter(name, callbacks)

    def create_observable_gauge(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableGauge:
        family = self._observed(name, Kind.GAUGE, callbacks, unit, description)
        return _ObservableGauge(family) if family else metrics.NoOpObservableGauge(name, callbacks)

    def _observed(
        self, name: str, kind: Kind, callbacks: Sequence[CallbackT] | None, unit: str, description: str
    ) -> Family | None:
        family = self._ledger.family(name, kind, unit, description)
        if family is not None:
            family.observers += [_reference(callback) for callback in callbacks or ()]
        return family


class LedgerProvider(MeterProvider):
    """The process's `MeterProvider`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Attributes = None
    ) -> metrics.Meter:
        del attributes
        return _Meter(self._ledger, name, version, schema_url)


def _reference(callback: CallbackT) -> Callable[[], Observe | None]:
    """A callback, not kept alive if it is a bound method: the API has no way to take one back, and plugins leave."""
    if not inspect.ismethod(callback):
        ask = _asker(callback)
        return lambda: ask
    method: weakref.WeakMethod[Any] = weakref.WeakMethod(callback)

    def find() -> Observe | None:
        found = method()
        return None if found is None else _asker(found)

    return find


def _asker(callback: Any) -> Observe:
    if isinstance(callback, Generator):
        next(callback)
    ask: Callable[[CallbackOptions], Iterable[Observation]]
    ask = callback.send if isinstance(callback, Generator) else callback
    return lambda: [(labels_of(told.attributes), told.value) for told in ask(CallbackOptions())]


_ledger = Ledger()  # as global as the provider that the API allows one of


def process_ledger() -> tuple[Ledger, bool]:
    """The ledger of this process, and whether what plugins measure ends up in it.

    It does not where the application that the host runs in has set a provider of its own before.
    """
    provider = metrics.get_meter_provider()
    if isinstance(provider, _ProxyMeterProvider):
        metrics.set_meter_provider(LedgerProvider(_ledger))
        provider = metrics.get_meter_provider()
    if isinstance(provider, LedgerProvider):
        return provider._ledger, True  # noqa: SLF001 - of this module
    return _ledger, False
