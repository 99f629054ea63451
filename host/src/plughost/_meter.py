"""`InstanceMeter`: metrics that are read from whoever lives when somebody collects."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from opentelemetry import metrics


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)
Readings = Iterable[tuple[float, Mapping[str, str]]]
"""What is read from one instance: values, each with its attributes. The name of the instance is added to those."""
Read = Callable[[T], Readings]


class InstanceMeter(Generic[T]):
    """Observable instruments of the OpenTelemetry API over all instances of a plugin. A call pays nothing for them.

        meter: InstanceMeter[ShelfPlugin] = InstanceMeter("plughost.shelf")

        @meter.up_down_counter("plughost.shelf.books", "{book}", "Books, by whether they are lent.")
        def books(plugin: ShelfPlugin) -> Readings:
            yield plugin.lent, {"plughost.shelf.lent": "true"}
            yield plugin.there, {"plughost.shelf.lent": "false"}

    `meter.watch(self)` in `register()` shows an instance, `meter.unwatch(self)` in `unregister()` hides it. One meter
    stands for all instances of a process, in however many hosts: the API never lets an observable instrument go, nor
    what its callback refers to. Instances are held weakly; the instruments are made when the first one is watched.

    The attribute `label` has the name of the instance. What several of one name count adds up; of their gauges the
    highest is shown, as `plughost-metrics` does over workers.

    That plugin reads on the event loop. Where the application that a host is mounted in has set an OpenTelemetry
    provider of its own, it may read from a thread.
    """

    def __init__(self, name: str, *, label: str = "plughost.plugin") -> None:
        self._name = name
        self._label = label
        self._live: WeakSet[T] = WeakSet()
        self._makers: list[Callable[[metrics.Meter], object]] = []
        self._instruments: list[object] = []

    def watch(self, instance: T) -> None:
        """Show an instance, until it is unwatched or gone."""
        if not self._instruments:
            meter = metrics.get_meter(self._name)
            self._instruments = [make(meter) for make in self._makers]
        self._live.add(instance)

    def unwatch(self, instance: T) -> None:
        """Show an instance no more."""
        self._live.discard(instance)

    def counter(self, name: str, unit: str, description: str) -> Callable[[Read[T]], Read[T]]:
        """Decorates what reads numbers that only grow."""
        return self._decorator("counter", name, unit, description)

    def up_down_counter(self, name: str, unit: str, description: str) -> Callable[[Read[T]], Read[T]]:
        """Decorates what reads amounts, such as calls in flight: they add up."""
        return self._decorator("up_down_counter", name, unit, description)

    def gauge(self, name: str, unit: str, description: str) -> Callable[[Read[T]], Read[T]]:
        """Decorates what reads states, ages or ratios: they do not add up."""
        return self._decorator("gauge", name, unit, description)

    def _decorator(self, kind: str, name: str, unit: str, description: str) -> Callable[[Read[T]], Read[T]]:
        combine: Callable[[float, float], float] = max if kind == "gauge" else operator.add

        def decorate(read: Read[T]) -> Read[T]:
            def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
                found: dict[tuple[tuple[str, str], ...], float] = {}
                for instance in list(self._live):
                    for value, attributes in read(instance):
                        labels = ((self._label, instance.name), *attributes.items())
                        found[labels] = combine(found[labels], value) if labels in found else value
                return [metrics.Observation(value, dict(labels)) for labels, value in found.items()]

            self._makers.append(operator.methodcaller(f"create_observable_{kind}", name, [observe], unit, description))
            return read

        return decorate
