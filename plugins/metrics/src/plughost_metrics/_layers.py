"""What each layer of the pipeline costs by itself: its time without that of the layers inside, in one call of many."""

from __future__ import annotations

import time
from collections.abc import Awaitable

from plughost import Call, CallNext, Handler, Phase, Result

from plughost_metrics._ledger import Distribution, Family

BOUNDS = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LayerTimes:
    """Wraps handlers so that every `every`-th call of each is timed; the others pay for a countdown."""

    def __init__(self, family: Family, every: int) -> None:
        self._family = family
        self._every = every

    def wrap(self, instance: str, phase: Phase, handler: Handler) -> Handler:
        labels = (("plughost.plugin", instance), ("plughost.phase", phase.name))
        own = self._family.distribution(labels)
        every = left = self._every

        def layer(call: Call, call_next: CallNext) -> Awaitable[Result]:
            nonlocal left
            left -= 1
            if left:
                return handler(call, call_next)
            left = every
            return _timed(handler, call, call_next, own)

        return layer


async def _timed(handler: Handler, call: Call, call_next: CallNext, own: Distribution) -> Result:
    inside = 0.0

    async def onward(call: Call) -> Result:
        nonlocal inside
        begin = time.perf_counter()  # of the processor's work, so real also in tests that turn the clock
        try:
            return await call_next(call)
        finally:
            inside += time.perf_counter() - begin

    begin = time.perf_counter()
    try:
        return await handler(call, onward)
    finally:
        own.record(max(0.0, time.perf_counter() - begin - inside))
