"""Graceful shutdown for Plughost: not ready, then refuse, then drain, each within its limit.

    [plugins.shutdown]
    grace = "5s"
    drain_timeout = "25s"

The host runs it when a signal comes; `plughost ctl shutdown drain` does the same without ending the process.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    Duration,
    ErrorCode,
    EventType,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginConfig,
    PluginError,
    Refusal,
    Result,
    Shutdown,
    hookimpl,
)
from pydantic import BaseModel
from starlette.middleware import Middleware as HTTPMiddleware

from plughost_shutdown import _drain
from plughost_shutdown._flush import flush_telemetry
from plughost_shutdown._http import Closing

if TYPE_CHECKING:
    from plughost import Host

__all__ = ["ShutdownConfig", "ShutdownPlugin"]

logger = logging.getLogger("plughost.shutdown")

LINGER = 0.5
"""Seconds of silence after the last call: clients ask for the list that they check their answer against."""
EVENT_OF: Mapping[_drain.Phase, EventType] = {
    _drain.Phase.SERVING: EventType.HOST_READY,
    _drain.Phase.GRACE: EventType.HOST_NOT_READY,
    _drain.Phase.DRAINING: EventType.HOST_DRAINING,
    _drain.Phase.DRAINED: EventType.HOST_DRAINED,
    _drain.Phase.OVERDUE: EventType.HOST_DRAINED,
}


class ShutdownConfig(PluginConfig):
    """The keys of `[plugins.shutdown]`."""

    grace: Duration = 0.0
    """How long calls are still served after the host stopped being ready: as long as load balancers take to see it."""
    drain_timeout: Duration | None = None
    """How long calls in flight may take to finish; that of `[host]` if absent."""
    unregister_timeout: Duration = 10.0
    """How long each provider and each plugin may then take to release what it holds."""
    flush_timeout: Duration = 5.0
    """How long traces, metrics and logs may take to be sent."""
    retry_after: Duration = 1.0
    """What a refused client is told to wait before it calls again."""


class ShutdownPlugin(MCPPlugin[ShutdownConfig]):
    """Decides what happens between the signal and the end of the process."""

    provides = (Shutdown,)

    def __init__(self, config: ShutdownConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.refused = 0
        self._followed_up = 0
        self._leaving = False
        self._count = metrics.get_meter("plughost.shutdown").create_counter(
            "plughost.shutdown.refused", unit="{request}", description="Requests refused because the host drains."
        )

    async def register(self, host: Host) -> None:
        self._host, self._leaving = host, False
        self._drain = _drain.Drain(host.clock, self._entered, self._finish)
        host.provide(Shutdown, self)  # type: ignore[type-abstract]  # shared under its protocol

    async def unregister(self) -> None:
        if not self._leaving:  # taken out during a drain for maintenance
            self._drain.resume()
        del self._host, self._drain

    async def reconfigure(self, config: ShutdownConfig) -> bool:
        self.config = config  # read when a drain begins; one under way goes on
        return True

    # -- what the host asks -------------------------------------------------------------------------------------------

    @property
    def drain_timeout(self) -> float:
        own = self.config.drain_timeout
        return own if own is not None else self._host.config.host.drain_timeout

    @property
    def unregister_timeout(self) -> float:
        return self.config.unregister_timeout

    async def leave(self, *, listening: bool) -> bool:
        """Stop being ready, refuse, finish, send telemetry. Says whether every call was finished.

        There is no grace where nobody new can come: on stdio, or where another server has stopped listening.
        """
        self._leaving = True
        finished = await self._drain.run(grace=self.config.grace if listening else 0, limit=self.drain_timeout)
        await flush_telemetry(self.config.flush_timeout)
        return finished

    def _entered(self, phase: _drain.Phase) -> None:
        self._host.draining = phase is not _drain.Phase.SERVING
        if phase is _drain.Phase.DRAINING:
            self._host.end_streams()
        finished = {"finished": phase is _drain.Phase.DRAINED} if EVENT_OF[phase] is EventType.HOST_DRAINED else {}
        details = {"phase": phase.value, "leaving": self._leaving, **finished}
        self._host.publish(HostEvent(EVENT_OF[phase], self.name, details))
        logger.info("%s: %s, %d calls in flight", self._host.settings.name, phase, self._in_flight)

    async def _finish(self, limit: float) -> bool:
        if not self._in_flight:
            return True
        clock = self._host.clock
        deadline = clock.monotonic() + limit
        finished = await self._host.drain(everything=True, limit=limit)
        before = -1
        while finished and before != self._followed_up and clock.monotonic() < deadline:
            before = self._followed_up
            await clock.sleep(LINGER)
        return finished

    @property
    def _in_flight(self) -> int:
        return self._host.inside_retired + self._host.generation.pipeline.gate.inside

    # -- what stands in the way of calls ------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.admit, Phase.ADMIT, before=("auth", "tenancy"))]

    @hookimpl
    def plughost_http_middleware(self) -> Iterable[HTTPMiddleware]:
        return [HTTPMiddleware(Closing, self._drain, self._host.settings.path)]

    def admit(self, call: Call, call_next: CallNext) -> Awaitable[Result]:
        """Hand the call on, unless the host drains and the call is new."""
        return self._refuse_new(call, call_next) if self._drain.refusing else call_next(call)

    async def _refuse_new(self, call: Call, call_next: CallNext) -> Result:
        if _goes_on(call):
            self._followed_up += 1
            return await call_next(call)
        self.refused += 1
        self._count.add(1)
        raise Refusal(
            ErrorCode.SHUTTING_DOWN,
            f"{self._host.settings.name} is shutting down and takes no new calls; call again, another process answers",
            retry_after_ms=round(self.config.retry_after * 1000),
        )

    # -- operations ---------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Phase of the drain, calls in flight, calls refused"),
            Operation("drain", self.drain, changes=True, summary="Drain as for an exit, and stay; waits until drained"),
            Operation("resume", self.resume, changes=True, summary="Serve again after drain"),
        ]

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        del parameters
        return {
            "phase": self._drain.phase.value,
            "leaving": self._leaving,
            "in_flight": self._in_flight,
            "refused": self.refused,
        }

    async def drain(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """Stop being ready, refuse and finish; the process stays, until `resume` or a signal."""
        await self._drain.run(grace=self.config.grace, limit=self.drain_timeout)
        return await self.show(parameters)

    async def resume(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """Serve again.

        Raises:
            PluginError: The process ends.
        """
        if self._leaving:
            raise PluginError(self.name, "cannot resume: the process ends", remedy="Start another one")
        self._drain.resume()
        return await self.show(parameters)


def _goes_on(call: Call) -> bool:
    """Whether it belongs to what began before.

    A further round of a call, the end of a subscription, or a list: a client that has its answer lists the tools to
    check the answer against the tool's schema, and loses it if it cannot.
    """
    params = call.params
    further = "requestState" in params or "inputResponses" in params
    return further or call.method == "resources/unsubscribe" or call.method.endswith("/list")
