"""Changes that an upstream tells of: `subscriptions/listen` at a modern one, `resources/subscribe` at a legacy one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count
from typing import Any

import anyio
from anyio.abc import TaskStatus
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from plughost import ErrorCode, Kind, ListChanged, ProviderEvent, Refusal, ResourceChanged

from plughost_upstream._backoff import Backoff
from plughost_upstream._exchange import Exchange
from plughost_upstream._limit import Limit
from plughost_upstream._session import NotTakenError, Session

logger = logging.getLogger("plughost.upstream")

LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "notifications/tools/list_changed": (Kind.TOOLS,),
    "notifications/prompts/list_changed": (Kind.PROMPTS,),
    "notifications/resources/list_changed": (Kind.RESOURCES, Kind.TEMPLATES),
}
_FLAGS = {Kind.TOOLS: "toolsListChanged", Kind.PROMPTS: "promptsListChanged"}
_ids = count(1)


def events_of(method: str, params: Mapping[str, Any]) -> list[ProviderEvent]:
    """What a change notification of either era says."""
    uri = params.get("uri")
    if method == "notifications/resources/updated" and isinstance(uri, str):
        return [ResourceChanged(uri)]
    return [ListChanged(kind) for kind in _KINDS.get(method, ())]


class Watches:
    """Which resources are watched, and on which session. They outlive the session."""

    def __init__(self, emit: Callable[[ProviderEvent], None], limit: float) -> None:
        self._emit = emit
        self._limit = limit
        self._uris: dict[str, None] = {}
        self._session: Session | None = None
        self._stream: anyio.CancelScope | None = None
        self._acknowledged: dict[str, Callable[[], object]] = {}
        self._honoured: Mapping[str, Any] = {}
        self._changing = anyio.Lock()

    @property
    def uris(self) -> tuple[str, ...]:
        """What is watched."""
        return tuple(self._uris)

    def want(self, *uris: str) -> None:
        """Watch resources from the next session on."""
        self._uris.update(dict.fromkeys(uris))

    def told_of(self, kind: Kind) -> bool:
        """Whether the upstream tells when this list changes."""
        if self._session is None:
            return False
        if self._session.modern:
            return self._honoured.get(_FLAGS.get(kind, "resourcesListChanged")) is True
        capability = self._session.agreed.capabilities.get(kind.capability)
        return isinstance(capability, Mapping) and capability.get("listChanged") is True

    def heard(self, method: str, params: Mapping[str, Any]) -> None:
        """Take a change notification, or the acknowledgement of a stream of them."""
        if method == "notifications/subscriptions/acknowledged":
            meta, honoured = params.get("_meta"), params.get("notifications")
            stream = meta.get(SUBSCRIPTION_ID_META_KEY) if isinstance(meta, Mapping) else None
            if isinstance(honoured, Mapping) and any(key in LISTS for key in honoured):
                self._honoured = honoured
            self._acknowledged.pop(str(stream), bool)()
            return
        for event in events_of(method, params):
            self._emit(event)

    async def attach(self, session: Session) -> None:
        """Watch on a new session what was watched on the one before, and say that it may have changed meanwhile."""
        self._session, self._stream, self._honoured = session, None, {}
        if session.modern:
            session.tasks.start_soon(self._follow_lists, session)
        for uri in list(self._uris):
            try:
                await self._subscribe(session, uri)
            except (MCPError, NotTakenError) as error:
                logger.warning("upstream %r cannot watch %r any more: %s", session.upstream.name, uri, error)
            self._emit(ResourceChanged(uri))

    async def add(self, session: Session, uri: str) -> None:
        """Watch a resource; once is enough.

        Raises:
            MCPError: The upstream refuses.
        """
        if uri in self._uris:
            return
        self._uris[uri] = None
        try:
            await self._subscribe(session, uri)
        except BaseException:
            self._uris.pop(uri, None)
            raise

    async def remove(self, session: Session | None, uri: str) -> None:
        """Watch a resource no longer."""
        if uri not in self._uris:
            return
        del self._uris[uri]
        if session is None:
            return
        if session.modern:
            await self._follow_resources(session)
        else:
            await self._request(session, "resources/unsubscribe", uri)

    async def _subscribe(self, session: Session, uri: str) -> None:
        if session.modern:
            await self._follow_resources(session)
        else:
            await self._request(session, "resources/subscribe", uri)

    async def _request(self, session: Session, method: str, uri: str) -> None:
        exchange = Exchange(None, {}, Limit(self._limit))
        with exchange.limit:
            await session.send(exchange, method, {"uri": uri})
        if exchange.limit.expired:
            details = {"provider": session.upstream.name}
            raise Refusal(ErrorCode.TIMEOUT, f"{method} was not answered within {self._limit:g} s", details=details)

    # -- streams of a modern upstream ---------------------------------------------------------------------------------

    async def _follow_resources(self, session: Session) -> None:
        """Open a stream for all watched resources, then close the one before: no change is missed between them."""
        async with self._changing:
            before, self._stream = self._stream, None
            if self._uris:
                wanted = {"resourceSubscriptions": list(self._uris)}
                with anyio.move_on_after(self._limit):
                    self._stream = await session.tasks.start(self._hold, session, wanted)
                if self._stream is None:
                    problem = f"subscriptions/listen was not acknowledged within {self._limit:g} s"
                    raise Refusal(ErrorCode.TIMEOUT, problem, details={"provider": session.upstream.name})
            if before is not None:
                before.cancel()

    async def _hold(
        self, session: Session, wanted: Mapping[str, Any], *, task_status: TaskStatus[anyio.CancelScope]
    ) -> None:
        """One stream and, when it ends without need, the next one, until cancelled or the session is lost."""
        begun = anyio.Event()
        with anyio.CancelScope() as scope:

            def start() -> None:
                if not begun.is_set():
                    begun.set()
                    task_status.started(scope)

            async for _ in self._streams(session, wanted, start, begun):
                for uri in wanted["resourceSubscriptions"]:
                    self._emit(ResourceChanged(uri))

    async def _follow_lists(self, session: Session) -> None:
        """Hear of list changes as long as the session lives; a server that cannot tell is left alone."""
        begun = anyio.Event()
        try:
            async for _ in self._streams(session, LISTS, begun.set, begun):
                for kind in Kind:
                    self._emit(ListChanged(kind))
        except (MCPError, NotTakenError) as error:
            logger.debug("upstream %r tells of no changes: %s", session.upstream.name, error)

    async def _streams(
        self, session: Session, wanted: Mapping[str, Any], start: Callable[[], object], begun: anyio.Event
    ) -> AsyncIterator[None]:
        """Open a stream again and again while the session lives; yields after each, as changes may have been missed.

        Raises:
            MCPError: The first one was refused.
            NotTakenError: The upstream cannot be reached.
        """
        pause = Backoff(session.upstream.config.retry_min, session.upstream.config.retry_max)
        while session.live:
            try:
                await self._listen(session, wanted, start)
                start()
            except (MCPError, NotTakenError):
                if not begun.is_set():
                    raise
                session.suspected.set()
            await anyio.sleep(pause.pause())
            yield
        if not begun.is_set():
            raise NotTakenError(session.reason)

    async def _listen(self, session: Session, wanted: Mapping[str, Any], start: Callable[[], object]) -> None:
        stream = f"listen-{next(_ids)}"
        self._acknowledged[stream] = start
        try:
            body = {"notifications": wanted}
            await session.send(Exchange(None, body, Limit(0)), "subscriptions/listen", body, request_id=stream)
        finally:
            self._acknowledged.pop(stream, None)
