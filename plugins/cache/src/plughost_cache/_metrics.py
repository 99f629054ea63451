"""The metrics of a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plughost import InstanceMeter, Readings

if TYPE_CHECKING:
    from plughost_cache._plugin import CachePlugin

meter: InstanceMeter[CachePlugin] = InstanceMeter("plughost.cache")


@meter.counter("plughost.cache.hits", "{call}", "Calls answered from the cache, by level.")
def hits(plugin: CachePlugin) -> Readings:
    stats = plugin.stats
    yield stats.hits_l1, {"plughost.cache.level": "l1"}
    yield stats.hits_l2, {"plughost.cache.level": "l2"}
    yield stats.stale, {"plughost.cache.level": "stale"}
    yield stats.joined, {"plughost.cache.level": "joined"}


@meter.counter("plughost.cache.misses", "{call}", "Calls that asked the provider.")
def misses(plugin: CachePlugin) -> Readings:
    yield plugin.stats.misses, {"plughost.cache.kept": "true"}
    yield plugin.stats.passed, {"plughost.cache.kept": "false"}


@meter.counter("plughost.cache.evictions", "{answer}", "Answers that had to go for others.")
def evictions(plugin: CachePlugin) -> Readings:
    yield plugin.memory.evictions, {}


@meter.counter("plughost.cache.invalidations", "{tag}", "Tags that were given up.")
def invalidations(plugin: CachePlugin) -> Readings:
    yield plugin.levels.invalidations, {}


@meter.counter("plughost.cache.failures", "{question}", "Failures of the second level.")
def failures(plugin: CachePlugin) -> Readings:
    shared = plugin.shared
    if shared is not None:
        yield shared.failures, {"plughost.cache.failure": "unavailable"}
        yield shared.unreadable, {"plughost.cache.failure": "unreadable"}


@meter.up_down_counter("plughost.cache.entries", "{answer}", "Answers in memory.")
def entries(plugin: CachePlugin) -> Readings:
    yield len(plugin.memory), {}


@meter.up_down_counter("plughost.cache.size", "By", "Bytes of answers in memory.")
def size(plugin: CachePlugin) -> Readings:
    yield plugin.memory.bytes, {}
