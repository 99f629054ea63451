"""Faults on purpose: what clients and resilience plugins do when a provider misbehaves.

    [plugins.chaos]
    i_know = true
    faults = [{ kind = "latency", seconds = "2s", rate = 0.1 }]

The faults are those of `plughost_testing.faults`, injected into a running host instead of a test.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, cast

from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    Host,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginConfig,
    Provider,
    Result,
    hookimpl,
)
from plughost_testing.faults import Fault, Faults, Faulty, Rule
from pydantic import BaseModel

from plughost_chaos._config import KIND_OF, ChaosConfig, FaultTable

__all__ = ["ChaosConfig", "ChaosPlugin", "FaultTable"]

logger = logging.getLogger("plughost.chaos")


class SeedParameters(PluginConfig):
    """What `set-seed` takes."""

    seed: int


class ChaosPlugin(MCPPlugin[ChaosConfig]):
    """Stands innermost in PROTECT, so that whatever protects calls sees the faults as the provider's own."""

    def __init__(self, config: ChaosConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.seed = self.config.seed
        self.faults = _MeteredFaults([table.rule() for table in self.config.faults], seed=self.seed)
        self._providers: dict[str | None, Faulty] = {}

    async def register(self, host: Host) -> None:
        del host
        if self.faults.rules:
            logger.warning("plugin %r makes calls fail on purpose: %d faults", self.name, len(self.faults.rules))

    async def unregister(self) -> None:
        for provider in self._providers.values():
            await provider.stop()

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        outside = ("retry", "hedge", "circuit-breaker", "timeout", "bulkhead")
        return [Middleware(self.inject, Phase.PROTECT, after=outside)]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Faults injected so far, by kind"),
            Operation("pause", self.pause, changes=True, summary="Let calls pass unharmed, until resume"),
            Operation("resume", self.resume, changes=True, summary="Inject faults again"),
            Operation(
                "set-seed", self.set_seed, parameters=SeedParameters, changes=True, summary="Start anew with this seed"
            ),
        ]

    async def inject(self, call: Call, call_next: CallNext) -> Result:
        """Hand the call on as a faulty provider would serve it."""
        if not self.faults.enabled or (call.provider is None and not call.method.endswith("/list")):
            return await call_next(call)
        provider = self._providers.get(call.provider)
        if provider is None:
            inner = cast("Provider", _Onward(call.provider or "providers"))  # a list is of all of them
            provider = self._providers[call.provider] = Faulty(inner, self.faults)
        return await provider.request(call, {"onward": call_next})

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """What the operation of this name answers, as all others do."""
        del parameters
        kinds = [type(rule.fault) for rule in self.faults.rules]
        injected = {KIND_OF[kind]: self.faults.injected[kind.__name__.lower()] for kind in kinds}
        return {"paused": not self.faults.enabled, "seed": self.seed, "injected": injected}

    async def pause(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        self.faults.enabled = False
        return await self.show(parameters)

    async def resume(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        self.faults.enabled = True
        return await self.show(parameters)

    async def set_seed(self, parameters: SeedParameters) -> Mapping[str, Any]:
        """Draw from another seed; all numbers start anew. What is paused stays paused."""
        self.seed, before = parameters.seed, self.faults
        self.faults = _MeteredFaults(before.rules, seed=self.seed)
        self.faults.enabled = before.enabled
        for provider in self._providers.values():
            provider.faults = self.faults
        return await self.show()


class _MeteredFaults(Faults):
    """Faults that are also counted in the OpenTelemetry API."""

    def __init__(self, rules: Iterable[Rule], *, seed: int) -> None:
        super().__init__(rules, seed=seed)
        self._count = metrics.get_meter("plughost.chaos").create_counter(
            "plughost.chaos.injected", unit="{fault}", description="Faults injected into calls, by kind."
        )

    def choose(self, method: str, name: str | None) -> list[Fault]:
        chosen = super().choose(method, name)
        for fault in chosen:
            self._count.add(1, {"plughost.chaos.kind": KIND_OF[type(fault)]})
        return chosen


class _Onward:
    """The rest of the pipeline, in the place where `Faulty` has a provider.

    It comes as a parameter of each request, which `Faulty` hands on as it is: kept in the call, it would keep the
    plugin alive as long as somebody keeps the call.
    """

    prefix = ""

    def __init__(self, name: str) -> None:
        self.name = name

    async def request(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        onward: CallNext = params["onward"]
        return dict(await onward(call))

    async def stop(self) -> None:
        """Nothing to release; the host stops the provider behind."""
