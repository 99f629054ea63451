"""Who wants to hear of changes: listen streams of 2026-07-28 and sessions of earlier revisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from mcp.server.connection import Connection
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, SubscriptionBus
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

SLOW_CLIENT = 5.0
"""Seconds after which a client that does not read loses a notification, so that others get theirs."""
EVENT_OF: dict[Kind, ServerEvent] = {
    Kind.TOOLS: ToolsListChanged(),
    Kind.PROMPTS: PromptsListChanged(),
    Kind.RESOURCES: ResourcesListChanged(),
    Kind.TEMPLATES: ResourcesListChanged(),
}


class Subscriptions:
    """One bus for changes of all providers, and the clients on it. Counts who watches which resource."""

    def __init__(self, catalog: Callable[[], Catalog], bus: SubscriptionBus | None = None) -> None:
        self._catalog = catalog
        self.bus = bus or InMemorySubscriptionBus()
        self.listeners = ListenHandler(self.bus)
        self._sessions: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()
        self._watchers: Counter[str] = Counter()

    async def listen(self, call: Call) -> dict[str, Any]:
        """Serve one `subscriptions/listen` stream until the client leaves or the host ends it."""
        try:
            params = SubscriptionsListenRequestParams.model_validate(call.params, by_name=False)
        except ValidationError:
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "") from None
        uris = set(params.notifications.resource_subscriptions or ())
        try:
            for uri in uris:
                await self.watch(uri)
            result = await self.listeners(call.context, params)
        finally:
            for uri in uris:
                await self.unwatch(uri)
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)

    def join(self, connection: Connection) -> None:
        """A session of an earlier revision has begun."""
        self._sessions.setdefault(connection, set())

    async def subscribe(self, call: Call) -> None:
        """Follow a legacy `resources/subscribe` or `resources/unsubscribe` that the provider accepted."""
        uris = self._sessions.setdefault(call.connection, set())
        if call.target is None or (call.target in uris) == (call.method == "resources/subscribe"):
            return
        if call.method == "resources/subscribe":
            uris.add(call.target)
            call.connection.exit_stack.push_async_callback(self._leave, call.connection, call.target)
            await self.watch(call.target)
        else:
            await self._leave(call.connection, call.target)

    async def _leave(self, connection: Connection, uri: str) -> None:
        uris = self._sessions.get(connection, set())
        if uri in uris:
            uris.discard(uri)
            await self.unwatch(uri)

    async def watch(self, uri: str) -> None:
        """Count one more watcher of `uri`; the first one makes the provider watch it."""
        self._watchers[uri] += 1
        if self._watchers[uri] == 1:
            for provider in self._owners(uri):
                await provider.subscribe(uri)

    async def unwatch(self, uri: str) -> None:
        """Count one watcher less; the last one makes the provider stop."""
        self._watchers[uri] -= 1
        if self._watchers[uri] <= 0:
            del self._watchers[uri]
            for provider in self._owners(uri):
                await provider.unsubscribe(uri)

    async def adopt(self, providers: Iterable[Provider]) -> None:
        """Make new providers watch what clients watch already."""
        new = {provider.name for provider in providers}
        for uri in list(self._watchers):
            for provider in self._owners(uri):
                if provider.name in new:
                    await provider.subscribe(uri)

    def _owners(self, uri: str) -> list[Provider]:
        catalog = self._catalog()
        route = catalog.locate_resource(uri)
        if route is not None:
            return [catalog.providers[route.provider]]
        return list(catalog.providers.values()) if len(catalog.providers) == 1 else []

    async def publish(self, event: ServerEvent) -> None:
        """Tell every client that asked: listen streams through the bus, sessions directly."""
        await self.bus.publish(event)
        async with anyio.create_task_group() as tasks:
            for connection, uris in list(self._sessions.items()):
                if event.uri in uris if isinstance(event, ResourceUpdated) else connection.initialized.is_set():
                    tasks.start_soon(_tell, connection, event)


async def _tell(connection: Connection, event: ServerEvent) -> None:
    with anyio.move_on_after(SLOW_CLIENT):
        if isinstance(event, ResourceUpdated):
            await connection.send_resource_updated(event.uri)
        elif isinstance(event, ToolsListChanged):
            await connection.send_tool_list_changed()
        elif isinstance(event, PromptsListChanged):
            await connection.send_prompt_list_changed()
        else:
            await connection.send_resource_list_changed()
