"""The plugin: it opens the ledger, measures calls, and lets Prometheus and a collector read."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from plughost import (
    Handler,
    HealthCheck,
    Host,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginError,
    hookimpl,
)
from pydantic import BaseModel
from starlette.routing import BaseRoute, Route

from plughost_metrics._calls import CallTimes
from plughost_metrics._config import MetricsConfig, OTLPConfig
from plughost_metrics._instruments import process_ledger
from plughost_metrics._layers import BOUNDS as LAYER_BOUNDS
from plughost_metrics._layers import LayerTimes
from plughost_metrics._ledger import Buckets, Family, Kind, Labels, Metric, logger
from plughost_metrics._otlp import Push
from plughost_metrics._scrape import Scrape
from plughost_metrics._workers import FOLDER, Workers

SERVER = "mcp.server.operation.duration"
CLIENT = "mcp.client.operation.duration"
LAYER = "plughost.layer.duration"
INFO = "target_info"
"""What the OpenTelemetry specification calls the resource in Prometheus."""
SAVE_EVERY = 1.0
"""Seconds between two looks at what a worker has to share."""
LAST_PUSH = 2.0
"""Seconds that a plugin which leaves gives the collector."""


class MetricsPlugin(MCPPlugin[MetricsConfig]):
    """Measures every call, collects what all plugins count, and shows it to Prometheus and OTLP collectors."""

    async def register(self, host: Host) -> None:
        for item in host.instances.values():
            if isinstance(item.plugin, MetricsPlugin) and item.name != self.name:
                problem = f"would count every call that {item.name!r} counts again"
                raise PluginError(self.name, problem, remedy="Keep one of them")
        self._host = host
        self._clock = host.clock  # now: while a generation is composed, the host knows only the system's
        self._ledger, complete = process_ledger()
        if not complete:
            logger.warning(
                "the application has an OpenTelemetry MeterProvider of its own: what plugins count goes there, "
                "and %r shows only calls, providers and layers",
                self.name,
            )
        async with AsyncExitStack() as stack:
            stack.callback(self._ledger.limit(self.config.max_series))
            self._ledger.open()
            stack.callback(self._ledger.close)
            folder = os.environ.get(FOLDER)
            self._workers = await run_sync(Workers, Path(folder), self._ledger.era) if folder else None
            self._open_metrics(host, stack)
            await self._start(stack)
            self._stack = stack.pop_all()

    def _open_metrics(self, host: Host, stack: AsyncExitStack) -> None:
        config = self.config

        def times(name: str, description: str, *, resolved: bool) -> CallTimes:
            family, buckets = self._histogram(name, description, config.buckets, stack)
            exemplars = config.exemplars and self._workers is None
            return CallTimes(family, buckets, host, resolved=resolved, tenant=config.tenant, exemplars=exemplars)

        self._served = times(SERVER, "How long requests of clients took.", resolved=False)
        self._asked = times(CLIENT, "How long providers took, each attempt by itself.", resolved=True)
        text = "How long a layer of the pipeline took by itself, in a sample of the calls."
        layers, _ = self._histogram(LAYER, text, LAYER_BOUNDS, stack)
        self._layers = LayerTimes(layers, config.sample_layers) if config.sample_layers else None
        self._events = self._family(
            "plughost.events", Kind.COUNTER, "{event}", "Events of the host and of plugins, by type and subject."
        )
        self._pushes = self._family(
            "plughost.metrics.pushes", Kind.COUNTER, "{push}", "Pushes to the OTLP collector, by whether it took them."
        )
        for name, kind, unit, text, ask in (
            (INFO, Kind.GAUGE, "", "The host.", self._info),
            ("plughost.host.calls.in_flight", Kind.UP_DOWN, "{call}", "Calls inside the pipeline.", self._in_flight),
            ("plughost.provider.up", Kind.GAUGE, "", "1 while the provider serves, else 0.", self._providers),
        ):
            stack.callback(self._ledger.observe(name, kind, unit, text, ask))

    def _histogram(
        self, name: str, description: str, bounds: tuple[float, ...], stack: AsyncExitStack
    ) -> tuple[Family, Buckets]:
        family = self._family(name, Kind.HISTOGRAM, "s", description)
        buckets = family.divide(bounds)
        stack.callback(family.undivide, buckets)
        return family, buckets

    def _family(self, name: str, kind: Kind, unit: str, description: str) -> Family:
        family = self._ledger.family(name, kind, unit, description)
        if family is None:
            raise PluginError(self.name, f"cannot record {name}, which another plugin has made something else of")
        return family

    async def _start(self, stack: AsyncExitStack) -> None:
        """Start what runs beside the calls; on the way out the last numbers are handed over."""
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)  # the last step: it cancels whoever leaves, too
        if self._workers is not None:
            stack.push_async_callback(self._save_last)
            tasks.start_soon(self._every, SAVE_EVERY, self._save)
        self._push: Push | None = None
        if (otlp := self.config.otlp) is not None:
            self._push = await run_sync(self._connect, otlp)
            stack.push_async_callback(run_sync, self._push.close)
            stack.push_async_callback(self._send, LAST_PUSH)
            tasks.start_soon(self._every, otlp.interval, self._send)

    async def unregister(self) -> None:
        await self._stack.aclose()

    # -- what is measured ---------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        outside = ("retry", "hedge", "circuit-breaker", "timeout", "bulkhead")
        return [
            Middleware(self._served.measure, Phase.OBSERVE, after=("tracing",)),
            Middleware(self._asked.measure, Phase.PROTECT, after=outside, before=("chaos",)),
        ]

    @hookimpl
    def plughost_layer(self, instance: str, phase: Phase, handler: Handler) -> Handler | None:
        return self._layers.wrap(instance, phase, handler) if self._layers is not None else None

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        self._events.add(1, (("plughost.event.subject", event.subject), ("plughost.event.type", str(event.type))))

    def _info(self) -> Iterable[tuple[Labels, float]]:
        host = self._host
        yield (("service.name", host.settings.name), ("service.version", host.version)), 1

    def _in_flight(self) -> Iterable[tuple[Labels, float]]:
        yield (), self._host.generation.pipeline.gate.inside + self._host.inside_retired

    def _providers(self) -> Iterable[tuple[Labels, float]]:
        for provider in self._host.status()["providers"]:
            yield (("plughost.provider", provider["name"]),), int(provider["status"] == "up")

    # -- who reads it -------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_http_routes(self) -> Iterable[BaseRoute]:
        if not self.config.prometheus:
            return []
        token = self.config.token
        now = self._clock.monotonic
        scrape = Scrape(self._collect, now=now, token=token.get_secret_value() if token else None)
        return [Route(self.config.path, scrape.answer, methods=["GET"])]

    async def _collect(self) -> Sequence[Metric]:
        """The numbers of all processes that serve together. Observers are asked here, in the loop, not in a thread."""
        here = self._ledger.now()
        return here if self._workers is None else await run_sync(self._workers.merge, here)

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [Operation("show", self.show, summary="Metrics in this process, and how many series each has")]

    async def show(self, parameters: BaseModel | None = None) -> dict[str, object]:
        """What the operation of this name answers."""
        del parameters
        series = {metric.name: len(metric.series) for metric in self._ledger.now()}
        return {"series": sum(series.values()), "max_series": self.config.max_series, "metrics": series}

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("otlp", self._check)] if self._push is not None else []

    async def _check(self) -> None:
        if self._push is not None and not self._push.taken:
            raise RuntimeError(f"the collector at {self._push.endpoint} did not take the last push")

    # -- what runs beside the calls -----------------------------------------------------------------------------------

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(seconds)
            await work()

    async def _save(self) -> None:
        if self._workers is not None:
            await self._share(self._workers.write)

    async def _save_last(self) -> None:
        if self._workers is not None and self._ledger.users == 1:  # who replaces this one goes on with the numbers
            await self._share(self._workers.leave)

    async def _share(self, write: Callable[[Sequence[Metric]], None]) -> None:
        try:
            await run_sync(write, self._ledger.now())
        except OSError as error:
            logger.error("the numbers of this worker cannot be shared: %s", error)

    def _connect(self, otlp: OTLPConfig) -> Push:
        headers = {name: value.get_secret_value() for name, value in otlp.headers.items()}
        host = self._host
        return Push(
            otlp.endpoint,
            headers,
            timeout=otlp.timeout,
            service=host.settings.name,
            version=host.version,
            start=self._clock.time(),
        )

    async def _send(self, limit: float | None = None) -> None:
        """Push all numbers. Who leaves does not wait for a collector that is away."""
        assert self._push is not None
        here = [metric for metric in self._ledger.now() if metric.name != INFO]  # which OTLP says of each push
        with anyio.move_on_after(limit):
            await run_sync(self._push.send, here, self._clock.time(), abandon_on_cancel=True)
        self._pushes.add(1, (("plughost.outcome", "success" if self._push.taken else "failure"),))
