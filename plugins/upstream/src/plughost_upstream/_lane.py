"""All sessions with one upstream in one era, what it lists there, and what is watched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from anyio.abc import TaskGroup
from mcp.server.connection import Connection
from mcp.shared.exceptions import MCPError
from plughost import ErrorCode, Kind, ListChanged, ProviderEvent, Refusal

from plughost_upstream._config import Era, Upstream
from plughost_upstream._connector import Connector
from plughost_upstream._exchange import LEVELS, Exchange
from plughost_upstream._guard import Guard
from plughost_upstream._limit import Limit
from plughost_upstream._listings import Listings
from plughost_upstream._questions import may_be_asked
from plughost_upstream._session import NotTakenError, Session
from plughost_upstream._watches import Watches

logger = logging.getLogger("plughost.upstream")


class Lane:
    """The sessions of one era. The first of them fetches the lists and hears of changes.

    `changed()` is called when a session came or went, `emit` with what the upstream tells; a list that changed has been
    fetched by then.
    """

    def __init__(
        self,
        upstream: Upstream,
        guard: Guard,
        era: Era,
        *,
        emit: Callable[[ProviderEvent], None],
        changed: Callable[[], None],
    ) -> None:
        self.upstream = upstream
        self.listings = Listings(upstream.name)
        self.watches = Watches(self._changed_upstream, upstream.timeout)
        self.level: str | None = None
        """The most talkative log level that any client asked for."""
        self._emit = emit
        self._changed = changed
        self._news = anyio.Event()
        self._stale: dict[Kind, None] = {}
        self._tasks: TaskGroup | None = None
        self._mine: WeakKeyDictionary[Connection, Session] = WeakKeyDictionary()
        self._connectors = [
            Connector(upstream, guard, era, changed=self._stirred, on_change=self._told, on_ready=self._ready)
        ]
        self._connectors += [
            Connector(upstream, guard, "legacy", changed=self._stirred, on_change=_deaf, on_ready=self._set_level)
            for _ in range(1, upstream.table.sessions)
        ]
        self._waiting = self._connectors[1:]
        """Started only where there are sessions: a modern HTTP upstream has none."""

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, tasks: TaskGroup) -> None:
        """Start to connect."""
        # Not in the context of the call that needs this lane: it is over long before the lane.
        Context().run(tasks.start_soon, self._run)

    async def _run(self) -> None:
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._connectors[0].run, self._tasks)
            self._tasks.start_soon(self._refresh)

    def stop(self) -> None:
        """End all sessions for good."""
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    @property
    def first(self) -> Connector:
        """The connector of the session that lists and watches."""
        return self._connectors[0]

    @property
    def sessions(self) -> list[Session]:
        """The sessions that take requests."""
        return [session for connector in self._connectors if (session := connector.live) is not None]

    @property
    def modern(self) -> bool | None:
        """Whether the upstream speaks 2026-07-28 here; `None` if that is not known yet."""
        session = self.first.session
        return session.modern if session is not None else None

    def renew(self, reason: str) -> None:
        """End every session, and connect anew at once."""
        for connector in self._connectors:
            if connector.live is not None:
                connector.live.lose(reason)
            connector.hurry()

    async def _ready(self, session: Session) -> None:
        await self._set_level(session)
        await self.listings.fetch_all(session, self.upstream.connect_timeout)
        await self.watches.attach(session)
        if not session.modern and self._tasks is not None:
            while self._waiting:
                self._tasks.start_soon(self._waiting.pop().run, self._tasks)

    def _stirred(self) -> None:
        self._news.set()
        self._news = anyio.Event()
        self._changed()

    # -- choosing a session -------------------------------------------------------------------------------------------

    def pick(self, exchange: Exchange) -> Session | None:
        """A session for this request: the client's own one, if it has one.

        A client that can be asked gets an idle one, while there is one, so that a question is certainly its.
        """
        sessions = self.sessions
        if len(sessions) < 2:
            return sessions[0] if sessions else None
        call = exchange.call
        assert call is not None
        mine = self._mine.get(call.connection)
        idle = [session for session in sessions if not session.calls]
        if mine in sessions and (not mine.calls or not idle or not may_be_asked(call)):
            chosen = mine
        elif may_be_asked(call) and idle:
            chosen = idle[0]
        else:
            chosen = min(sessions, key=lambda session: len(session.calls))
        self._mine[call.connection] = chosen
        return chosen

    async def acquire(self, exchange: Exchange) -> Session:
        """A session, after a short wait if there is none.

        Raises:
            Refusal: There is none.
        """
        if (session := self.pick(exchange)) is not None:
            return session
        wait = self.upstream.wait
        with anyio.move_on_after(wait):
            while self.first.retry_at - anyio.current_time() < wait:
                await self._news.wait()
                if (session := self.pick(exchange)) is not None:
                    return session
        raise self.refusal()

    def refusal(self) -> Refusal:
        """What a request is answered with while the upstream is down."""
        name, problem = self.upstream.name, self.first.problem
        pause = max(0.0, self.first.retry_at - anyio.current_time())
        return Refusal(
            ErrorCode.UPSTREAM_UNAVAILABLE,
            f"Upstream {name!r} is not available: {problem}",
            details={"provider": name, "reason": problem},
            retry_after_ms=round(pause * 1000) or 1000,
        )

    # -- lists --------------------------------------------------------------------------------------------------------

    async def refetch(self, kind: Kind) -> None:
        """Fetch a list that the upstream does not tell the changes of.

        Raises:
            MCPError: The upstream's answer is an error.
        """
        session = self.first.live
        if session is not None:
            try:
                different = await self.listings.fetch(session, kind, self.upstream.timeout)
            except NotTakenError:
                return  # what is known has to do
            if different:
                self._emit(ListChanged(kind))

    def _told(self, method: str, params: Mapping[str, Any]) -> None:
        self.watches.heard(method, params)

    def _changed_upstream(self, event: ProviderEvent) -> None:
        if isinstance(event, ListChanged):
            self._stale[event.kind] = None
            self._news.set()
            self._news = anyio.Event()
        else:
            self._emit(event)

    async def _refresh(self) -> None:
        """Fetch lists that changed, then tell: whoever asks on hearing it gets the new list at once."""
        while True:
            while self._stale:
                kind = next(iter(self._stale))
                del self._stale[kind]
                session = self.first.live
                if session is None:
                    continue  # the next session fetches all
                try:
                    await self.listings.fetch(session, kind, self.upstream.connect_timeout)
                    self._emit(ListChanged(kind))  # also of an equal list: the upstream said that it changed
                except (MCPError, NotTakenError) as error:
                    logger.warning("upstream %r cannot list its %s: %s", self.upstream.name, kind.value, error)
            await self._news.wait()

    # -- logging ------------------------------------------------------------------------------------------------------

    async def raise_level(self, level: str) -> None:
        """Make a legacy upstream log what somebody wants to see; it is filtered per client."""
        if self.level is None or LEVELS.index(level) < LEVELS.index(self.level):
            self.level = level
            for session in self.sessions:
                await self._set_level(session)

    async def _set_level(self, session: Session) -> None:
        if self.level is None or session.modern or "logging" not in session.agreed.capabilities:
            return
        exchange = Exchange(None, {}, Limit(self.upstream.timeout))
        with exchange.limit:
            try:
                await session.send(exchange, "logging/setLevel", {"level": self.level})
            except MCPError as error:
                logger.debug("upstream %r refuses the log level: %s", self.upstream.name, error)

    def __repr__(self) -> str:
        return f"<Lane to {self.upstream.name!r}: {len(self.sessions)} sessions>"


def _deaf(method: str, params: Mapping[str, Any]) -> None:
    """Changes are heard on the first session only."""
