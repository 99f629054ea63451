"""Who wants to hear of changes: listen streams of 2026-07-28 and sessions of earlier revisions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from mcp.server.connection import Connection
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import INVALID_PARAMS, SubscriptionsListenRequestParams
from pydantic import ValidationError

from plughost._call import Call
from plughost._catalog import Catalog
from plughost._provider import Kind, Provider
from plughost._shared import ReplicaBus

logger = logging.getLogger("plughost")

MAX_URIS = 256
"""Resources that one listen stream may name."""
SLOW_CLIENT = 5.0
"""Seconds after which a client that does not read loses a notification."""
EVENT_OF: dict[Kind, ServerEvent] = {
    Kind.TOOLS: ToolsListChanged(),
    Kind.PROMPTS: PromptsListChanged(),
    Kind.RESOURCES: ResourcesListChanged(),
    Kind.TEMPLATES: ResourcesListChanged(),
}


class Session:
    """A session of an earlier revision: the resources it watches, and the events it has not been told yet."""

    def __init__(self) -> None:
        self.uris: set[str] = set()
        self.untold: dict[ServerEvent, None] = {}
        self.telling = False


class Subscriptions:
    """One bus for the changes of all providers, and the clients on it.

    What clients want is compared with what providers have been asked to watch, after every change of either. Where a
    plugin shares a `ReplicaBus`, changes take the way through it, and what clients of other hosts watch counts too.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        spawn: Callable[..., None],
        replicas: Callable[[], ReplicaBus | None] = lambda: None,
    ) -> None:
        self._catalog = catalog
        self._spawn = spawn
        self._shared = replicas
        self._followed: ReplicaBus | None = None
        self._unfollow: Callable[[], object] = lambda: None
        self.bus = InMemorySubscriptionBus()
        self.listeners = ListenHandler(self.bus)
        self._streams: dict[object, set[str]] = {}
        self._sessions: WeakKeyDictionary[Connection, Session] = WeakKeyDictionary()
        self._watched: dict[str, Provider] = {}
        self._syncing = anyio.Lock()

    async def listen(self, call: Call, admitted: Callable[[str], Any]) -> dict[str, Any]:
        """Serve one `subscriptions/listen` stream until the client leaves or the host ends it.

        `admitted` says of each URI whether the caller may watch it; the others are not honored.

        Raises:
            MCPError: The parameters are malformed, or name too many resources.
        """
        try:
            params = SubscriptionsListenRequestParams.model_validate(call.params, by_name=False)
        except ValidationError:
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "") from None
        asked = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
        if len(asked) > MAX_URIS:
            raise MCPError(INVALID_PARAMS, f"A stream may name {MAX_URIS} resources, not {len(asked)}; open several")
        uris = [uri for uri in asked if await admitted(uri)]
        honored = params.notifications.model_copy(update={"resource_subscriptions": uris or None})
        stream = object()
        self._streams[stream] = set(uris)
        try:
            await self.settle()
            result = await self.listeners(call.context, params.model_copy(update={"notifications": honored}))
        finally:
            del self._streams[stream]
            self._spawn(self.settle)
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)

    def join(self, connection: Connection) -> None:
        """A session of an earlier revision has begun."""
        self._sessions[connection] = Session()
        connection.exit_stack.callback(self._spawn, self.settle)

    async def subscribe(self, call: Call) -> None:
        """Follow a legacy `resources/subscribe` or `resources/unsubscribe` that the provider accepted."""
        session = self._sessions.get(call.connection)
        if session is None or call.target is None:
            return
        if call.method == "resources/subscribe":
            session.uris.add(call.target)
        else:
            session.uris.discard(call.target)
        await self.settle()

    def _wishes(self) -> list[set[str]]:
        return [*self._streams.values(), *(session.uris for session in self._sessions.values())]

    def wants(self, uri: str) -> bool:
        """Whether any client watches the resource, here or at another host."""
        if any(uri in uris for uris in self._wishes()):
            return True
        replicas = self._follow()
        return replicas is not None and uri in replicas.watched

    @property
    def watched(self) -> frozenset[str]:
        """The resources that clients of this host watch."""
        return frozenset().union(*self._wishes())

    def _follow(self) -> ReplicaBus | None:
        """The bus that a plugin shares now. One that is new is listened to, and told what is watched here."""
        found = self._shared()
        if found is not self._followed:
            self._unfollow()
            self._followed, self._unfollow = found, lambda: None
            if found is not None:
                self._unfollow = found.subscribe(lambda event: self._spawn(self.deliver, event))
                self._spawn(self.settle)
        return found

    async def settle(self) -> None:
        """Make providers watch what clients want, here and at the other hosts."""
        await self.sync()
        if (replicas := self._follow()) is not None:
            await replicas.watch(self.watched)

    async def sync(self) -> None:
        """Make each provider watch what its clients want, and nothing else. A provider that fails is logged."""
        async with self._syncing:
            replicas = self._follow()
            wanted = {uri: self._owner(uri) for uri in self.watched | (replicas.watched if replicas else frozenset())}
            for uri, provider in list(self._watched.items()):
                if wanted.get(uri) is not provider:
                    del self._watched[uri]
                    await self._ask(provider.unsubscribe, uri)
            for uri, owner in wanted.items():
                if owner is not None and uri not in self._watched and await self._ask(owner.subscribe, uri):
                    self._watched[uri] = owner

    @staticmethod
    async def _ask(ask: Callable[[str], Any], uri: str) -> bool:
        try:
            with anyio.fail_after(SLOW_CLIENT):
                await ask(uri)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this provider's alone
            logger.warning("%s(%r) failed: %s", getattr(ask, "__qualname__", ask), uri, error)
            return False
        return True

    def _owner(self, uri: str) -> Provider | None:
        catalog = self._catalog()
        route = catalog.locate_resource(uri)
        if route is not None:
            return catalog.providers[route.provider]
        return next(iter(catalog.providers.values())) if len(catalog.providers) == 1 else None

    async def publish(self, events: Iterable[ServerEvent]) -> None:
        """Tell every client that asked of what changed here. A bus of somebody else's that fails is logged."""
        for event in events:
            replicas = self._follow()
            if replicas is None:
                await self.deliver(event)
                continue
            try:
                with anyio.fail_after(SLOW_CLIENT):
                    await replicas.publish(event)
            except Exception:
                logger.exception("%r did not take %r", replicas, event)

    async def deliver(self, event: ServerEvent) -> None:
        """Tell the clients of this host: listen streams through the bus, sessions directly. Waits for no client."""
        await self.bus.publish(event)
        for connection, session in list(self._sessions.items()):
            wants = event.uri in session.uris if isinstance(event, ResourceUpdated) else True
            if wants and connection.initialized.is_set():
                session.untold[event] = None
                if not session.telling:
                    session.telling = True
                    self._spawn(_tell, connection, session)


async def _tell(connection: Connection, session: Session) -> None:
    """Tell a session what it has not been told. Events are level triggers: one of each kind is enough."""
    try:
        while session.untold:
            event = next(iter(session.untold))
            del session.untold[event]
            with anyio.move_on_after(SLOW_CLIENT):
                if isinstance(event, ResourceUpdated):
                    await connection.send_resource_updated(event.uri)
                elif isinstance(event, ToolsListChanged):
                    await connection.send_tool_list_changed()
                elif isinstance(event, PromptsListChanged):
                    await connection.send_prompt_list_changed()
                else:
                    await connection.send_resource_list_changed()
    finally:
        session.telling = False
