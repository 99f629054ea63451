"""The plugin: routes, operation, event, gauge, and systemd, around one monitor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from plughost import Duration, EventType, HostEvent, MCPPlugin, Operation, PluginConfig, hookimpl
from pydantic import BaseModel, Field, SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from plughost_health._checks import Checks, NamedCheck
from plughost_health._state import Finding, State, judge
from plughost_health._systemd import Systemd

if TYPE_CHECKING:
    from plughost import Host

LEVEL = {State.HEALTHY: 0, State.DEGRADED: 1, State.UNHEALTHY: 2}
NOT_READY = "draining"
TELLING = frozenset(
    {
        EventType.PROVIDER_UP,
        EventType.PROVIDER_DOWN,
        EventType.BACKEND_UP,
        EventType.BACKEND_DOWN,
        EventType.PLUGIN_FAILED,
        EventType.CONFIG_RELOADED,
        EventType.HOST_STARTED,
    }
)
"""Events after which it is worth a look."""


class HealthConfig(PluginConfig):
    """The keys of `[plugins.health]`."""

    cache: Duration = 1.0
    """How long what was found is told again: probes cannot load what is probed."""
    timeout: Duration = Field(default=2.0, gt=0)
    """The most that any check may take, also one that asks for more."""
    interval: Duration = Field(default=15.0, gt=0)
    """How often the host looks by itself, so that the event and the gauge need no probe."""
    details_token: SecretStr | None = Field(default=None, min_length=16)
    """Who sends it as `Authorization: Bearer …` reads which check failed and why. Without it nobody does."""


class HealthPlugin(MCPPlugin[HealthConfig]):
    """Says how the host does to load balancers, orchestrators, operators and systemd."""

    def __init__(self, config: HealthConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.state = State.HEALTHY
        self._tasks: list[asyncio.Task[None]] = []
        self._gauge = metrics.get_meter("plughost.health").create_gauge(
            "plughost.health.state", description="0 healthy, 1 degraded, 2 unhealthy."
        )

    async def register(self, host: Host) -> None:
        self._host = host
        self._checks = Checks(host.clock, self._all_checks, cache=self.config.cache, limit=self.config.timeout)
        self._systemd = Systemd(os.environ)
        self._worth_a_look = asyncio.Event()
        self._tasks = [asyncio.create_task(self._look_around()), asyncio.create_task(self._remind())]
        if self._systemd.watchdog is not None:
            self._tasks.append(asyncio.create_task(self._live(self._systemd.watchdog)))
        self._gauge.set(LEVEL[self.state])

    async def unregister(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._checks.close()
        self._tasks = []

    async def reconfigure(self, config: HealthConfig) -> bool:
        self.config = config
        self._checks.cache, self._checks.limit = config.cache, config.timeout
        return True

    # -- looking ------------------------------------------------------------------------------------------------------

    async def report(self) -> tuple[State, list[Finding]]:
        """How the host does and what was found, a moment ago or now."""
        findings = [*await self._checks.findings(), *self._providers(), *self._failed_plugins()]
        state = judge(findings)
        if state is not self.state:
            before, self.state = self.state, state
            self._gauge.set(LEVEL[state])
            failed = [finding.name for finding in findings if finding.failed]
            details = {"before": before.value, "state": state.value, "failed": failed}
            self._host.publish(HostEvent(EventType.HEALTH_CHANGED, self.name, details))
            self._systemd.send(STATUS=f"{state}: {', '.join(failed)}" if failed else state.value)
        return state, findings

    def _all_checks(self) -> Iterable[NamedCheck]:
        return [(f"check/{instance}/{check.name}", check) for instance, check in self._host.health_checks]

    def _providers(self) -> Iterable[Finding]:
        for provider in self._host.status()["providers"]:
            yield Finding(f"provider/{provider['name']}", reason="" if provider["status"] == "up" else "is down")

    def _failed_plugins(self) -> Iterable[Finding]:
        return [Finding(f"plugin/{name}", reason=reason) for name, (reason, _) in self._host.failed.items()]

    async def _look_around(self) -> None:
        while True:
            await self._worth_a_look.wait()
            self._worth_a_look.clear()
            old = self._checks.remaining
            await self.report()
            if old:  # the checks were answered with what they found before the news
                await self._host.clock.sleep(old)
                await self.report()

    async def _remind(self) -> None:
        while True:
            await self._host.clock.sleep(self.config.interval)
            self._worth_a_look.set()

    async def _live(self, every: float) -> None:
        """As long as the event loop turns."""
        while True:
            self._systemd.send(WATCHDOG="1")
            await self._host.clock.sleep(every)

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        if event.type in TELLING:
            self._worth_a_look.set()
        if event.type == EventType.HOST_STARTED:
            self._systemd.send(READY="1", STATUS=self.state.value)
        elif event.type in (EventType.HOST_NOT_READY, EventType.HOST_DRAINING):
            if event.details.get("leaving", True):
                self._systemd.send(STOPPING="1", STATUS=NOT_READY)
            else:
                self._systemd.send(STATUS="draining for maintenance")
        elif event.type == EventType.HOST_READY:
            self._systemd.send(STATUS=self.state.value)

    # -- telling ------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_http_routes(self) -> Iterable[BaseRoute]:
        return [Route("/livez", self.livez), Route("/readyz", self.readyz), Route("/healthz", self.healthz)]

    async def livez(self, request: Request) -> Response:
        """200 as long as the event loop turns: nothing else would get better by a restart."""
        del request
        return _answer(200, {"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """503 while the host drains or is unhealthy."""
        state, findings = await self.report()
        ready = state is not State.UNHEALTHY and not self._host.draining
        word = NOT_READY if self._host.draining else state.value
        return _answer(200 if ready else 503, {"status": word, **self._details(request, findings)})

    async def healthz(self, request: Request) -> Response:
        """503 while the host is unhealthy."""
        state, findings = await self.report()
        status = 503 if state is State.UNHEALTHY else 200
        return _answer(status, {"status": state.value, **self._details(request, findings)})

    def _details(self, request: Request, findings: Iterable[Finding]) -> Mapping[str, Any]:
        token = self.config.details_token
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token is None or not compare_digest(given.encode(), token.get_secret_value().encode()):
            return {}
        return {"checks": [finding.describe() for finding in findings]}

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [Operation("show", self.show, summary="State of the host, with every check, provider and failed plugin")]

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """What the operation of this name answers: all that was found."""
        del parameters
        state, findings = await self.report()
        ready = state is not State.UNHEALTHY and not self._host.draining
        checks = [finding.describe() for finding in findings]
        return {"status": state.value, "ready": ready, "draining": self._host.draining, "checks": checks}


def _answer(status: int, body: Mapping[str, Any]) -> Response:
    return JSONResponse(body, status, {"cache-control": "no-store"})
