"""The metric: which backends are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plughost import InstanceMeter, Readings

if TYPE_CHECKING:
    from plughost_redis._backend import RedisBackend

meter: InstanceMeter[RedisBackend] = InstanceMeter("plughost.redis")


@meter.gauge("plughost.redis.up", "", "1 while a plugin has its shared store, 0 while it is away.")
def up(backend: RedisBackend) -> Readings:
    yield int(backend.up), {}
