"""The metric: which backends are there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import metrics

if TYPE_CHECKING:
    from plughost_redis._backend import RedisBackend

_LIVE: WeakSet[RedisBackend] = WeakSet()


def watch(backend: RedisBackend) -> None:
    """Count a backend in, until it is unwatched.

    One gauge for all, since the OpenTelemetry API never lets an observable instrument go: one for each backend would
    keep it, and its plugin, for ever.
    """
    _gauge()
    _LIVE.add(backend)


def unwatch(backend: RedisBackend) -> None:
    _LIVE.discard(backend)


@cache
def _gauge() -> object:
    return metrics.get_meter("plughost.redis").create_observable_gauge(
        "plughost.redis.up", [_observe], description="1 while a plugin has its shared store, 0 while it is away."
    )


def _observe(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
    del options
    for backend in list(_LIVE):
        yield metrics.Observation(int(backend.up), {"plughost.plugin": backend.name})
