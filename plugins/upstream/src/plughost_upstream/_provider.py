"""`UpstreamProvider`: one upstream as the host sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from anyio.abc import TaskGroup
from mcp.server.connection import Connection
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from mcp_types.methods import INPUT_REQUIRED_METHODS
from opentelemetry import metrics
from plughost import (
    Call,
    ErrorCode,
    Kind,
    ListChanged,
    Listing,
    ProviderDown,
    ProviderEvent,
    ProviderListener,
    ProviderUp,
    Refusal,
)

from plughost_upstream._bridge import Bridge
from plughost_upstream._config import Upstream
from plughost_upstream._exchange import LEVELS, Exchange
from plughost_upstream._guard import Guard
from plughost_upstream._lane import Lane
from plughost_upstream._lanes import Lanes
from plughost_upstream._limit import Limit
from plughost_upstream._parking import ParkingLot
from plughost_upstream._questions import AskDirectly, may_be_asked
from plughost_upstream._seal import Seal
from plughost_upstream._session import NotTakenError, Session
from plughost_upstream._shape import has_extensions, shape_capabilities
from plughost_upstream._stdio import find_program

logger = logging.getLogger("plughost.upstream")

GRACE = 1.0
"""Seconds that a lost upstream has to come back before its names leave the catalog."""
ATTEMPTS = 2
_NOT_HANDED_ON = frozenset({"notifications/cancelled", "notifications/initialized", "notifications/progress"})
_up = metrics.get_meter("plughost.upstream").create_gauge("plughost.upstream.up", description="1 if it serves, else 0.")


class UpstreamProvider:
    """Serves an upstream reached by stdio or Streamable HTTP."""

    def __init__(self, upstream: Upstream, guard: Guard) -> None:
        self.name = upstream.name
        self.prefix = upstream.prefix
        self.upstream = upstream
        self.stopped = False
        self._lanes = Lanes(upstream, guard, emit=self._tell, changed=self._stir)
        self._first = self._lanes.first
        self._listener: ProviderListener = lambda _: None
        self._changed = anyio.Event()
        self._up = False
        self._announced: Session | None = None
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._levels: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()
        seal = Seal(self.name, upstream.state_keys, upstream.config.answer_timeout)
        self._lot = ParkingLot(
            seal, name=self.name, size=upstream.config.max_parked, lifetime=upstream.config.answer_timeout
        )
        self._bridge = Bridge(upstream, seal)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, listener: ProviderListener) -> None:
        """Connect, or go on trying in the background when the upstream does not answer in time.

        Raises:
            ProviderError: There is no such program.
        """
        self._listener = listener
        if self.upstream.command:
            find_program(self.upstream)
        async with AsyncExitStack() as stack:
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._lanes.start(self._tasks)
            with anyio.move_on_after(self.upstream.start_timeout):
                await self._first.first.tried.wait()
            self._stack = stack.pop_all()
        self._announced = self._first.first.live
        self._set_up(self._announced is not None)
        if not self._up:
            listener(ProviderDown(self.problem))
        self._tasks.start_soon(self._announce)

    async def stop(self) -> None:
        """Close every session and process."""
        self.stopped = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        await self._stack.aclose()
        self._set_up(False)

    def _stir(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _tell(self, event: ProviderEvent) -> None:
        self._listener(event)

    def _set_up(self, up: bool) -> None:  # noqa: FBT001 - the value itself
        self._up = up
        _up.set(int(up), {"plughost.provider": self.name})

    async def _announce(self) -> None:
        """Tell the host when the upstream is gone for more than a moment, and when it is back."""
        while True:
            changed, session = self._changed, self._first.first.live
            if session is None and self._up:
                with anyio.move_on_after(GRACE):
                    while (session := self._first.first.live) is None:
                        await self._changed.wait()
            if session is None:
                if self._up:
                    self._set_up(False)
                    self._listener(ProviderDown(self.problem))
            elif session is not self._announced:
                self._announced = session
                self._lanes.reconsider()
                if not self._up:
                    self._set_up(True)
                    self._listener(ProviderUp())
                for kind in Kind:
                    self._listener(ListChanged(kind))
            await changed.wait()

    @property
    def problem(self) -> str:
        """Why the upstream is down; empty if it is up."""
        return "" if self._first.first.live is not None else self._first.first.problem

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def instructions(self) -> str | None:
        session = self._first.first.session
        return session.agreed.instructions if self._up and session is not None else None

    def capabilities(self, protocol_version: str) -> Mapping[str, Any]:
        session = self._lanes.known(protocol_version)
        if not self._up or session is None:
            return {}
        agreed = session.agreed
        return shape_capabilities(agreed.capabilities, source=agreed.version, version=protocol_version)

    def serves(self, method: str) -> bool:
        """An upstream does not say which methods its extensions have; without any it has none."""
        del method
        session = self._first.first.session
        return self._up and session is not None and has_extensions(session.agreed.capabilities)

    def describe(self) -> dict[str, Any]:
        """What runs, as JSON."""
        sessions = [session for lane in self._lanes for session in lane.sessions]
        return {
            "name": self.name,
            "transport": "stdio" if self.upstream.command else "http",
            "up": self._up,
            "problem": self.problem,
            "server": dict(sessions[0].agreed.identity) if sessions else {},
            "sessions": [{"version": item.agreed.version, "calls": len(item.calls)} for item in sessions],
            "parked": len(self._lot),
        }

    def reconnect(self) -> None:
        """End every session and connect anew, without waiting for the next attempt."""
        for lane in self._lanes:
            lane.renew("it was asked to reconnect")

    async def check(self) -> None:
        """Raise unless the upstream is connected.

        Raises:
            Refusal: It is not.
        """
        if self._first.first.live is None:
            raise self._first.refusal()

    # -- lists --------------------------------------------------------------------------------------------------------

    async def list(self, kind: Kind, call: Call | None) -> Listing:
        if not self._up:
            return Listing()
        if call is None:
            return self._first.listings.get(kind, None)
        lane = await self._lanes.of(call)
        if not lane.watches.told_of(kind):
            await lane.refetch(kind)
        return lane.listings.get(kind, call.protocol_version)

    # -- calls --------------------------------------------------------------------------------------------------------

    async def request(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        if call.method == "logging/setLevel":
            return await self._set_level(call, params)
        exchange = Exchange(call, params, Limit(self.upstream.timeout), level=self._level_of(call))
        if not exchange.modern:
            exchange.ask = AskDirectly(exchange, self.upstream.config.answer_timeout)
        elif call.method in INPUT_REQUIRED_METHODS and not self._first.modern:
            assert self._tasks is not None
            if params.get("requestState") is not None and not self._bridge.starts_again(call, params):
                return await self._lot.resume(call, params, self._tasks.start_soon)
            if may_be_asked(call):
                return await self._lot.begin(self._tasks, exchange, self._perform)
        return await self._perform(exchange)

    async def _perform(self, exchange: Exchange) -> dict[str, Any]:
        """Send a call, again if the upstream certainly did not take it, within the total limit."""
        call = exchange.call
        assert call is not None
        lane = self._first
        with exchange.limit:
            for _ in range(ATTEMPTS):
                lane = await self._lanes.of(call)
                session = await lane.acquire(exchange)
                try:
                    if call.method in ("resources/subscribe", "resources/unsubscribe"):
                        return await self._follow(lane, session, exchange)
                    return await self._bridge.carry(lane, session, exchange)
                except NotTakenError:
                    continue
            raise lane.refusal()
        problem = f"Upstream {self.name!r} did not answer {call.method} within {self.upstream.timeout:g} s"
        raise Refusal(ErrorCode.TIMEOUT, problem, details={"provider": self.name})

    async def notify(self, call: Call) -> None:
        if call.method in _NOT_HANDED_ON:
            return
        for lane in self._lanes:
            for session in lane.sessions:
                if not (session.modern and (self.upstream.url or call.method == "notifications/roots/list_changed")):
                    await session.notify(call.method, call.params)

    # -- logging ------------------------------------------------------------------------------------------------------

    async def _set_level(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        level = params.get("level")
        if level not in LEVELS:
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "")
        self._levels[call.connection] = str(level)
        lane = await self._lanes.of(call)
        await lane.raise_level(str(level))
        return {}

    def _level_of(self, call: Call) -> str | None:
        """The level that a legacy client set; without one it gets what the upstream says by itself."""
        raised = self._first.modern or any(lane.level is not None for lane in self._lanes)
        return self._levels.get(call.connection, "info" if raised else "debug")

    # -- subscriptions ------------------------------------------------------------------------------------------------

    async def _follow(self, lane: Lane, session: Session, exchange: Exchange) -> dict[str, Any]:
        """A client's own request; who else watches is counted by the host, which then calls `subscribe`."""
        assert exchange.call is not None
        uri = exchange.params.get("uri")
        if not isinstance(uri, str):
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "")
        if exchange.call.method == "resources/subscribe":
            await lane.watches.add(session, uri)
        return {}

    async def subscribe(self, uri: str) -> None:
        for lane in self._lanes:
            if (session := lane.first.live) is not None:
                try:
                    await lane.watches.add(session, uri)
                except (MCPError, NotTakenError) as error:
                    logger.warning("upstream %r cannot watch %r: %s", self.name, uri, error)
            lane.watches.want(uri)

    async def unsubscribe(self, uri: str) -> None:
        self._lanes.forget(uri)
        for lane in self._lanes:
            try:
                await lane.watches.remove(lane.first.live, uri)
            except (MCPError, NotTakenError) as error:
                logger.debug("upstream %r cannot stop to watch %r: %s", self.name, uri, error)

    def __repr__(self) -> str:
        return f"<UpstreamProvider {self.name!r}>"
