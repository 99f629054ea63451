"""The numbers of a cache, and the metrics made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import metrics

if TYPE_CHECKING:
    from plughost_cache._plugin import CachePlugin

_LIVE: WeakSet[CachePlugin] = WeakSet()


class Stats:
    """Counts since the start."""

    __slots__ = ("hits_l1", "hits_l2", "joined", "misses", "passed", "stale", "stored")

    def __init__(self) -> None:
        self.hits_l1 = 0
        self.hits_l2 = 0
        self.stale = 0
        """Answers past their time, while somebody fetched anew or because the provider failed."""
        self.joined = 0
        """Calls that got the answer another one was fetching."""
        self.misses = 0
        """Calls that asked the provider for something to keep."""
        self.passed = 0
        """Calls whose like could not be kept, so that nobody looked."""
        self.stored = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


def watch(plugin: CachePlugin) -> None:
    """Let the metrics tell of a plugin, until it is unwatched.

    The instruments are those of all instances, since the OpenTelemetry API never lets an observable one go.
    """
    _instruments()
    _LIVE.add(plugin)


def unwatch(plugin: CachePlugin) -> None:
    _LIVE.discard(plugin)


Reading = Iterable[tuple[float, dict[str, str]]]


@cache
def _instruments() -> tuple[object, ...]:
    meter = metrics.get_meter("plughost.cache")
    counter, gauge = meter.create_observable_counter, meter.create_observable_up_down_counter
    return (
        counter("plughost.cache.hits", [_each(_hits)], "{call}", "Calls answered from the cache, by level."),
        counter("plughost.cache.misses", [_each(_misses)], "{call}", "Calls that asked the provider."),
        counter("plughost.cache.evictions", [_each(_evictions)], "{answer}", "Answers that had to go for others."),
        counter("plughost.cache.invalidations", [_each(_invalidations)], "{tag}", "Tags that were given up."),
        counter("plughost.cache.failures", [_each(_failures)], "{question}", "Failures of the second level."),
        gauge("plughost.cache.entries", [_each(_entries)], "{answer}", "Answers in memory."),
        gauge("plughost.cache.size", [_each(_size)], "By", "Bytes of answers in memory."),
    )


def _each(read: Callable[[CachePlugin], Reading]) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
    def observe(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        del options
        for plugin in list(_LIVE):
            for value, attributes in read(plugin):
                yield metrics.Observation(value, {"plughost.plugin": plugin.name, **attributes})

    return observe


def _hits(plugin: CachePlugin) -> Reading:
    stats = plugin.stats
    for level, value in (
        ("l1", stats.hits_l1),
        ("l2", stats.hits_l2),
        ("stale", stats.stale),
        ("joined", stats.joined),
    ):
        yield value, {"plughost.cache.level": level}


def _misses(plugin: CachePlugin) -> Reading:
    yield plugin.stats.misses, {"plughost.cache.kept": "true"}
    yield plugin.stats.passed, {"plughost.cache.kept": "false"}


def _evictions(plugin: CachePlugin) -> Reading:
    yield plugin.memory.evictions, {}


def _invalidations(plugin: CachePlugin) -> Reading:
    yield plugin.levels.invalidations, {}


def _failures(plugin: CachePlugin) -> Reading:
    shared = plugin.shared
    if shared is not None:
        yield shared.failures, {"plughost.cache.failure": "unavailable"}
        yield shared.unreadable, {"plughost.cache.failure": "unreadable"}


def _entries(plugin: CachePlugin) -> Reading:
    yield len(plugin.memory), {}


def _size(plugin: CachePlugin) -> Reading:
    yield plugin.memory.bytes, {}
