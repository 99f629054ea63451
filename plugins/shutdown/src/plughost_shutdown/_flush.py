"""Telemetry that has been recorded and not been sent yet."""

from __future__ import annotations

import logging
from functools import partial

import anyio
import anyio.to_thread
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

logger = logging.getLogger("plughost.shutdown")


async def flush_telemetry(limit: float) -> None:
    """Let traces, metrics and logs be sent, all at once, within `limit` seconds.

    Only an SDK has something to flush; whoever installed it, the API leads to it.
    """

    async def flush(provider: object) -> None:
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is None:
            return
        try:
            # The exporters block; one that hangs is left behind in its thread.
            await anyio.to_thread.run_sync(partial(force_flush, int(limit * 1000)), abandon_on_cancel=True)
        except Exception:
            logger.exception("%s could not flush", type(provider).__name__)

    with anyio.move_on_after(limit) as waiting:
        async with anyio.create_task_group() as tasks:
            for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()):
                tasks.start_soon(flush, provider)
    if waiting.cancelled_caught:
        logger.warning("telemetry was not sent within %s s", limit)
