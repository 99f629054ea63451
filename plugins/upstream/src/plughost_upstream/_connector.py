"""Keeps one session with an upstream open: connects, and connects again when it is lost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp.shared.exceptions import MCPError
from opentelemetry import metrics
from plughost import Refusal

from plughost_upstream._backoff import Backoff
from plughost_upstream._config import Era, Upstream
from plughost_upstream._guard import Guard
from plughost_upstream._http import open_http
from plughost_upstream._negotiate import MuteError, negotiate
from plughost_upstream._session import Session, Wire
from plughost_upstream._stdio import open_stdio

logger = logging.getLogger("plughost.upstream")

STABLE = 10.0
"""Seconds a session must have lived for the next one to be opened without a pause."""
PROBE_LIMIT = 5.0
"""Seconds that a doubtful upstream has to answer a probe."""
_meter = metrics.get_meter("plughost.upstream")
_reconnects = _meter.create_counter(
    "plughost.upstream.reconnects", description="Sessions opened in place of a lost one."
)
_sessions = _meter.create_up_down_counter("plughost.upstream.sessions", description="Open sessions.")


class UnreachableError(Exception):
    """Raised when an upstream cannot be connected; the text says why."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors inside an exception group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from causes(inner)
    else:
        yield error


def explain(error: BaseException) -> str:
    """An error in words, without the group that a task group puts around it."""
    parts = [str(item) or type(item).__name__ for item in causes(error)]
    return "; ".join(dict.fromkeys(parts))


class Connector:
    """One session, kept open. `changed()` is called when there is a new one, or none any more."""

    def __init__(
        self,
        upstream: Upstream,
        guard: Guard,
        era: Era,
        *,
        changed: Callable[[], None],
        on_change: Callable[[str, Mapping[str, Any]], None],
        on_ready: Callable[[Session], Awaitable[None]] | None = None,
    ) -> None:
        self.upstream = upstream
        self.session: Session | None = None
        self.error: Exception | None = None
        """Why the last attempt failed."""
        self.tried = anyio.Event()
        """Set when the first attempt has ended, either way."""
        self.retry_at = 0.0
        self._era: Era = era
        self._guard = guard
        self._changed = changed
        self._on_change = on_change
        self._on_ready = on_ready
        self._hurry = anyio.Event()
        self._shy = False

    @property
    def live(self) -> Session | None:
        """The session, if there is one that takes requests."""
        return self.session if self.session is not None and self.session.live else None

    @property
    def refused(self) -> bool:
        """Whether the upstream answered that it does not speak this era."""
        found = causes(self.error) if self.error is not None else ()
        return any(isinstance(item, MCPError) and not isinstance(item, Refusal) for item in found)

    @property
    def problem(self) -> str:
        """Why there is no session."""
        if self.session is not None and self.session.reason:
            return self.session.reason
        return explain(self.error) if self.error is not None else "it has not answered yet"

    def hurry(self) -> None:
        """Do not wait for the next attempt."""
        self._hurry.set()

    async def run(self, tasks: TaskGroup) -> None:
        """Connect again and again, until cancelled."""
        pause = Backoff(self.upstream.config.retry_min, self.upstream.config.retry_max)
        while True:
            began = anyio.current_time()
            session = await self._connect(tasks)
            if session is not None:
                await session.lost.wait()
                logger.warning("upstream %r is lost: %s", self.upstream.name, session.reason)
            delay = pause.pause()
            if session is not None and anyio.current_time() - began > STABLE:
                pause.reset()
                delay = 0.0
            self.retry_at = anyio.current_time() + delay
            self._changed()
            with anyio.move_on_after(delay):
                await self._hurry.wait()
            self._hurry = anyio.Event()
            _reconnects.add(1, {"plughost.provider": self.upstream.name})

    async def _connect(self, tasks: TaskGroup) -> Session | None:
        try:
            self.session = await tasks.start(self._hold)
            self.error = None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this upstream's, and the next attempt may do
            self.error = error
            self._shy = self._shy or any(isinstance(item, MuteError) for item in causes(error))
            name, place = self.upstream.name, self.upstream.place
            logger.warning("upstream %r (%s) cannot be connected: %s", name, place, explain(error))
        self.tried.set()
        self._changed()
        return self.session if self.error is None else None

    def _open(self, doubt: Callable[[str, bool], None]) -> AbstractAsyncContextManager[Wire]:
        if self.upstream.command:
            return open_stdio(self.upstream, self._guard)
        return open_http(self.upstream, doubt)

    async def _hold(self, *, task_status: TaskStatus[Session]) -> None:
        """One session from its start until it is lost and the calls on it are done."""
        ready = False
        session: Session | None = None

        def doubt(reason: str, certain: bool) -> None:  # noqa: FBT001 - the HTTP client calls it
            if session is not None:
                session.doubt(reason, certain)

        try:
            async with self._open(doubt) as wire, anyio.create_task_group() as tasks:
                session = Session(self.upstream, wire, tasks, self._on_change)
                await tasks.start(session.run)
                await self._prepare(session)
                ready = True
                _sessions.add(1, {"plughost.provider": self.upstream.name})
                task_status.started(session)
                tasks.start_soon(self._watch, session)
                await session.lost.wait()
                await session.drained(self.upstream.timeout)
                tasks.cancel_scope.cancel()
        except Exception as error:
            if not ready:
                raise
            logger.warning("a session of upstream %r ended badly: %s", self.upstream.name, explain(error))
        finally:
            if session is not None:
                session.lose("it was closed")
            if ready:
                _sessions.add(-1, {"plughost.provider": self.upstream.name})

    async def _prepare(self, session: Session) -> None:
        era: Era = "legacy" if self._shy and self._era == "auto" else self._era
        try:
            with anyio.fail_after(self.upstream.connect_timeout):
                await negotiate(session, era, limit=self.upstream.connect_timeout)
                if self._on_ready is not None:
                    await self._on_ready(session)
        except TimeoutError:
            problem = f"it did not answer within {self.upstream.connect_timeout:g} s"
            raise UnreachableError(problem) from None
        except Refusal as error:
            raise UnreachableError(error.data["reason"]) from error

    async def _watch(self, session: Session) -> None:
        """Probe the session when something failed, and an idle HTTP upstream now and then."""
        every = self.upstream.table.ping if self.upstream.url else 0.0
        while session.live:
            with anyio.move_on_after(every or None):
                await session.suspected.wait()
            if not session.suspected.is_set() and anyio.current_time() - session.last_heard < every:
                continue
            if not session.suspected.is_set() and session.calls:
                continue  # busy, and a server may be busy in one thread
            session.suspected = anyio.Event()
            if not await session.probe(PROBE_LIMIT):
                session.lose("it does not answer any more")

    def __repr__(self) -> str:
        return f"<Connector to {self.upstream.name!r}: {'up' if self.live else 'down'}>"
