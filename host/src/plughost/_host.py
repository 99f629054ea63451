"""The host: a plugin registry, a catalog, and the generation that requests walk through."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
from anyio.abc import TaskGroup
from importlib_metadata import version
from mcp.server.connection import Connection
from mcp.server.context import CallNext as SDKCallNext
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.runner import ServerRunner
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, ServerCapabilities
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError
from starlette.requests import Request

from plughost._call import TARGETS, Call, Result
from plughost._catalog import Catalog
from plughost._change import Change, Objects
from plughost._config import HostConfig, PluginTable, faults_of, load_config
from plughost._errors import ConfigError, PlughostError, PluginError, ProviderError, did_you_mean
from plughost._events import EventType, HostEvent
from plughost._generation import Generation, finish
from plughost._http import HTTPStack, MCPApp
from plughost._inprocess import InProcessProvider
from plughost._instance import Instance, Lifecycle
from plughost._pipeline import Gate, Pipeline
from plughost._plugin import HealthCheck, MCPPlugin, Operation
from plughost._provider import (
    Kind,
    ListChanged,
    Provider,
    ProviderDown,
    ProviderEvent,
    ProviderUp,
    ResourceChanged,
)
from plughost._sdk import channel_of, host_call
from plughost._shared import Clock, ReplicaBus, Shutdown, SystemClock
from plughost._subscriptions import EVENT_OF, Subscriptions

T = TypeVar("T")
logger = logging.getLogger("plughost")

HANDSHAKE = frozenset({"initialize", "server/discover", "ping"})
"""Methods that the SDK answers itself; they pass OBSERVE, and `initialize` ADMIT too."""
NOT_HANDED_ON = frozenset({"notifications/initialized", "notifications/cancelled"})
"""Notifications that concern this host's own session with the client."""
SUBSCRIBE = frozenset({"resources/subscribe", "resources/unsubscribe"})
MOST_EVENTS = 10_000
"""Events that wait until plugins are told of them."""
LIVE_KEYS = frozenset({"drain_timeout"})
"""`[host]` keys that a reload applies."""
_MISSING: Any = object()


class _Front(Server[Any]):
    """The SDK server that faces the clients. Its one middleware is the host; its capabilities are the catalog's."""

    def __init__(self, host: Host) -> None:
        self._host = host
        super().__init__(host.config.host.name, version=host.version)
        self.middleware = [host.handle]
        self.get_tool_input_schema = self._header_schema

    def _header_schema(self, name: str) -> Mapping[str, Any] | None:
        return self._host.generation.catalog.header_schemas.get(name)

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> ServerCapabilities:
        del notification_options, experimental_capabilities, extensions
        self.instructions = self._host.generation.catalog.instructions
        found = self._host.generation.catalog.capabilities(protocol_version or LATEST_HANDSHAKE_VERSION)
        return ServerCapabilities.model_validate(found, by_name=False)


class Host:
    """A running host. Make one with `create_host` and use it as an async context manager.

    `app` is its ASGI application; `run_stdio()` serves one client on stdin and stdout.
    """

    def __init__(
        self,
        config: HostConfig,
        *,
        providers: Mapping[str, object] | None = None,
        plugins: Sequence[MCPPlugin[Any]] = (),
        trace: bool = False,
    ) -> None:
        self.config = config
        self.settings = config.host
        """The `[host]` table in force: that of the start."""
        self.version = version("plughost")
        self.trace = trace
        self.instances: dict[str, Instance] = {}
        self.failed: dict[str, tuple[str, str]] = {}
        """Instances with `required = false` that could not be registered: reason and remedy."""
        self.python: dict[str, tuple[Any, InProcessProvider]] = {}
        self.retired: list[Gate] = []
        """Gates of what has been swapped out, with calls inside perhaps."""
        self.generation = Generation(Pipeline(()), Catalog(()))
        self.subscriptions = Subscriptions(
            lambda: self.generation.catalog,
            self._spawn,
            lambda: self.get(ReplicaBus, None),  # type: ignore[type-abstract]
        )
        self.front = _Front(self)
        self.stamp: Mapping[str, Any] = self.front.server_info_stamp
        self.given = {name: _as_provider(name, server) for name, server in (providers or {}).items()}
        self.app = MCPApp(self)
        self.http = HTTPStack((), self.app.endpoint, self.settings.path)
        self._objects: Objects = [(plugin, PluginTable()) for plugin in plugins]
        self._running: dict[int, Lifecycle] = {}
        self._registering: Instance | None = None
        self._pending: Mapping[str, Instance] = {}
        self._change = anyio.Lock()
        self._changing: anyio.CancelScope | None = None
        self._stopping = False
        self.draining = False
        """Whether the host wants no more work: it leaves, or a plugin drains it for a while."""
        self._left: bool | None = None
        self._events: deque[HostEvent] = deque()
        self._telling = False
        self._provider_events: deque[tuple[str, ProviderEvent]] = deque()
        self._news = anyio.Event()
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None

    # -- life cycle ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the host has been entered and not left."""
        return self._tasks is not None

    async def __aenter__(self) -> Self:
        if self.running:
            raise RuntimeError(f"{self!r} runs already")
        self._stopping = self.draining = False
        self._left = None
        self.settings = self.config.host
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.push_async_callback(self._stop)
        try:
            await self._stack.enter_async_context(self.app.sessions())
            await self._apply(lambda: (self.config, self._objects))
            self._tasks.start_soon(self._deliver)
        except BaseException:
            await self._stack.aclose()
            raise
        self.publish(HostEvent(EventType.HOST_STARTED, self.settings.name))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.leave()  # while sessions can still be answered
        await self._stack.aclose()  # not told of `error`: a task group would wrap it

    async def _stop(self) -> None:
        """Stop providers, then the plugins they may come from, in reverse order.

        A change under way is undone, or finished if it is swapped in already.
        """
        assert self._tasks is not None
        self._stopping = True
        limit = self.shutdown.unregister_timeout if self.shutdown is not None else self.config.host.drain_timeout
        if self._changing is not None and not self._changing.shield:
            self._changing.cancel()
        with anyio.CancelScope(shield=True):
            async with self._change:
                for provider in self.generation.catalog.providers.values():
                    await self.stop_provider(provider, limit)
                for instance in reversed(self.instances.values()):
                    await self.unregister_instance(instance, limit)
        self.instances = {}
        self.generation = Generation(Pipeline(()), Catalog(()))
        self.http = HTTPStack((), self.app.endpoint, self.settings.path)
        self._tasks.cancel_scope.cancel()
        self._tasks = None

    def _spawn(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Run something in the background, if the host runs."""

        async def safely() -> None:
            try:
                await work(*arguments)
            except Exception:
                logger.exception("%s failed in the background", getattr(work, "__qualname__", work))

        if self._tasks is not None:
            self._tasks.start_soon(safely)

    @property
    def inside_retired(self) -> int:
        """Calls still inside what has been swapped out."""
        return sum(gate.inside for gate in self.retired)

    @property
    def shutdown(self) -> Shutdown | None:
        """The plugin that decides how the host takes leave, if there is one."""
        return self.get(Shutdown, None)  # type: ignore[type-abstract]

    async def leave(self, *, listening: bool = False) -> bool:
        """Take leave of the clients, once: as the plugin says that provides `Shutdown`, or else at once.

        `listening` says whether new clients can still reach the host. Says whether every call was finished.
        """
        if self._left is None:
            self.draining = True
            if self.shutdown is not None:
                self._left = await self.shutdown.leave(listening=listening)
            else:
                self.publish(HostEvent(EventType.HOST_DRAINING, self.settings.name))
                self.end_streams()
                self._left = await self.drain(everything=True)
        return self._left

    async def drain(self, *, everything: bool = False, limit: float | None = None) -> bool:
        """Wait until no call is inside what has been swapped out, or inside at all.

        At most `limit` seconds, by default `drain_timeout`. Says whether all left.
        """
        limit = self.config.host.drain_timeout if limit is None else limit
        current = [self.generation.pipeline.gate] if everything else []
        with anyio.move_on_after(limit):
            for gate in (*self.retired, *current):
                await gate.drained()
        self.retired = [gate for gate in self.retired if gate.inside]
        inside = self.inside_retired + sum(gate.inside for gate in current)
        if inside:
            logger.warning("%d calls did not finish within %s s", inside, limit)
        return not inside

    def end_streams(self) -> None:
        """End long-lived streams properly; their clients listen again."""
        self.subscriptions.listeners.close()
        self.app.end_streams()

    async def run_stdio(self) -> None:
        """Serve one client on stdin and stdout until it leaves. Enters the host if nobody did."""
        if not self.running:
            async with self:
                return await self.run_stdio()
        async with stdio_server() as (read, write):
            await self.front.run(read, write, self.front.create_initialization_options())
        return None

    # -- change at runtime --------------------------------------------------------------------------------------------

    async def register(self, plugin: MCPPlugin[Any], table: PluginTable | None = None) -> dict[str, Any]:
        """Add a plugin object under its name, with the common keys of `table` (`match`, `required`).

        Raises:
            PluginError: The name is taken, or the plugin failed; nothing has changed.
        """

        def wanted() -> tuple[HostConfig, Objects]:
            if plugin.name in self.instances:
                raise PluginError(plugin.name, "is registered already", remedy="Give the instance another name")
            return self.config, [*self._objects, (plugin, table or PluginTable())]

        return await self._apply(wanted)

    async def unregister(self, name: str) -> dict[str, Any]:
        """Take a plugin instance out, wait until no call is in it, and let it release everything.

        Raises:
            PluginError: There is no such instance, or another one requires what it provides.
        """

        def wanted() -> tuple[HostConfig, Objects]:
            if name not in self.instances:
                raise PluginError(name, f"is not registered{did_you_mean(name, self.instances)}")
            if name in self.config.instances.keys() - self.config.plugins.keys():
                raise PluginError(name, "serves providers with command or url", remedy="Take those out first")
            plugins = {key: table for key, table in self.config.plugins.items() if key != name}
            objects = [(plugin, table) for plugin, table in self._objects if plugin.name != name]
            return self.config.model_copy(update={"plugins": plugins}), objects

        return await self._apply(wanted)

    async def reload(self, config: HostConfig | None = None) -> dict[str, Any]:
        """Read the config file again (or take `config`) and change what differs.

        Returns a report: `changed` with name, action, calls drained and milliseconds; `restart` with the `[host]` keys
        that only a restart applies.

        Raises:
            PlughostError: The new configuration is refused, or a plugin failed; nothing has changed.
        """

        def wanted() -> tuple[HostConfig, Objects]:
            return config or load_config(self.config.source or self.config), self._objects

        try:
            report = await self._apply(wanted)
        except PlughostError as error:
            self.publish(HostEvent(EventType.CONFIG_REFUSED, self.settings.name, {"reason": str(error)}))
            raise
        changed = {key for key, value in self.config.host if value != getattr(self.settings, key)} - LIVE_KEYS
        self.publish(HostEvent(EventType.CONFIG_RELOADED, self.settings.name))
        return {**report, "restart": sorted(changed)}

    async def _apply(self, wanted: Callable[[], tuple[HostConfig, Objects]]) -> dict[str, Any]:
        """Make one change at a time. What is wanted is asked when its turn has come."""
        if _IN_REGISTER.get():
            raise RuntimeError("a plugin's register() cannot change the host; do it later, from a task of its own")
        async with self._change:
            if not self.running or self._stopping:
                raise PlughostError(f"{self!r} does not run; enter it first: async with create_host(...) as host")
            with anyio.CancelScope() as self._changing:
                config, objects = wanted()
                change = Change(self, config, objects)
                await change.build()
                self._changing.shield = True
                self.config, self._objects = config, objects
                report = await change.swap()
                await self.subscriptions.sync()
                return report
            raise PlughostError(f"{self!r} stops; the change was undone")

    def check(self) -> None:
        """Import and validate all that the config wants, without registering or starting anything.

        Raises:
            PlughostError: Names what is wrong.
        """
        Change(self, self.config, self._objects).plan()

    async def register_instance(self, item: Instance, pending: Mapping[str, Instance]) -> None:
        """Run `register()` of a plugin in a task of its own.

        Raises:
            PluginError: It raised.
        """
        assert self._tasks is not None

        async def start() -> None:
            _IN_REGISTER.set(True)
            await item.plugin.register(self)

        lifecycle = Lifecycle(f"plugin {item.name!r}", start, item.plugin.unregister)
        self._registering, self._pending = item, pending
        try:
            await lifecycle.enter(self._tasks)
        except Exception as error:
            remedy = "Mend it, or set enabled = false; required = false starts without it"
            if isinstance(error, PluginError):
                raise
            raise item.failure("register()", error, remedy=remedy) from error
        finally:
            self._registering, self._pending = None, {}
        item.lifecycle = lifecycle

    async def unregister_instance(self, item: Instance, limit: float | None = None) -> None:
        """Run `unregister()`; one that raises or hangs is logged, and gone all the same."""
        if item.lifecycle is not None:
            lifecycle, item.lifecycle = item.lifecycle, None
            await lifecycle.leave(self.config.host.drain_timeout if limit is None else limit)
        item.shared.clear()
        item.manager.unregister(item.plugin)

    async def start_provider(self, provider: Provider) -> bool:
        """Start a provider in a task of its own. False if it runs already.

        Raises:
            ProviderError: It cannot be started.
        """
        assert self._tasks is not None
        if id(provider) in self._running:
            return False
        if isinstance(provider, InProcessProvider):
            keys = tuple(key.get_secret_value() for key in self.settings.request_state_keys)
            provider.join(self.stamp, keys)

        async def start() -> None:
            try:
                await provider.start(lambda event: self._heard(provider, event))
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await provider.stop()
                raise

        lifecycle = self._running[id(provider)] = Lifecycle(f"provider {provider.name!r}", start, provider.stop)
        try:
            await lifecycle.enter(self._tasks)
        except BaseException as error:
            del self._running[id(provider)]
            if isinstance(error, PlughostError) or not isinstance(error, Exception):
                raise
            raise ProviderError(provider.name, f"does not start: {type(error).__name__}: {error}") from error
        return True

    async def stop_provider(self, provider: Provider, limit: float | None = None) -> None:
        """Stop a provider; one that raises or hangs is logged, and gone all the same."""
        if (lifecycle := self._running.pop(id(provider), None)) is not None:
            await lifecycle.leave(self.config.host.drain_timeout if limit is None else limit)

    # -- what plugins use ---------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        return self.get(Clock, _SYSTEM_CLOCK)  # type: ignore[type-abstract]

    def provide(self, kind: type[T], value: T) -> None:
        """Share `value` with other plugins under a type that the plugin lists in `provides`. Only in `register()`.

        Raises:
            RuntimeError: No plugin is being registered.
            PluginError: The plugin does not list it.
        """
        if self._registering is None:
            raise RuntimeError("host.provide() is for register(); the plugin's life decides how long it is shared")
        if kind not in self._registering.plugin.provides:
            raise self._registering.error(f"shares {kind.__name__} unannounced", remedy="List it in provides")
        self._registering.shared[kind] = value

    def get(self, kind: type[T], default: Any = _MISSING) -> T:
        """What another plugin shares under `kind`.

        Raises:
            PlughostError: Nobody shares it, and there is no default.
        """
        for item in (*self._pending.values(), *self.instances.values()):
            if kind in item.shared:
                return cast("T", item.shared[kind])
        if default is _MISSING:
            raise PlughostError(f"no enabled plugin provides {kind.__name__}; list it in requires, or give a default")
        return cast("T", default)

    @property
    def shared_types(self) -> set[type]:
        """The types that can be had without a plugin."""
        return {Clock}

    def publish(self, event: HostEvent) -> None:
        """Tell every plugin of an event, later, from a queue; at once if that is full: they are counted (G1).

        On the event loop only.
        """
        self._events.append(event)
        if len(self._events) >= MOST_EVENTS and not self._telling:
            self._tell_plugins()
        self._news.set()

    @property
    def health_checks(self) -> list[tuple[str, HealthCheck]]:
        """All checks, each with the instance it comes from."""
        return [
            (item.name, check)
            for item in self.instances.values()
            for check in item.contributed("plughost_health_checks")
        ]

    # -- what providers tell ------------------------------------------------------------------------------------------

    def _heard(self, provider: Provider, event: ProviderEvent) -> None:
        """Queue what a provider tells: once, and only what somebody wants to hear."""
        if isinstance(event, ResourceChanged) and not self.subscriptions.wants(event.uri):
            return
        if isinstance(event, ProviderUp | ProviderDown) or (provider.name, event) not in self._provider_events:
            self._provider_events.append((provider.name, event))
        self._news.set()

    def ask_for_refresh(self) -> None:
        """Ask all providers for their lists again, soon."""
        self._provider_events.extend(("", ListChanged(kind)) for kind in Kind)
        self._news.set()

    async def _deliver(self) -> None:
        """Follow the providers, and tell plugins of events: everything that no call may wait for."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            try:
                await self._follow_providers()
                await self.subscriptions.sync()
            except Exception:  # a bus of somebody else's; the next news must still be delivered
                logger.exception("telling clients of a change failed")
            self._tell_plugins()

    async def _follow_providers(self) -> None:
        kinds: set[Kind] = set()
        uris: dict[str, None] = {}
        while self._provider_events:
            name, event = self._provider_events.popleft()
            if isinstance(event, ListChanged):
                kinds.add(event.kind)
            elif isinstance(event, ResourceChanged):
                uris[event.uri] = None
            elif isinstance(event, ProviderUp | ProviderDown):
                kinds.update(Kind)
                reason = {"reason": event.reason} if isinstance(event, ProviderDown) else {}
                self.publish(HostEvent(EventType.PROVIDER_DOWN if reason else EventType.PROVIDER_UP, name, reason))
        if kinds:
            await self.refresh(kinds)
        await self.subscriptions.publish(ResourceUpdated(uri) for uri in uris)

    def _tell_plugins(self) -> None:
        self._telling = True  # plugins may publish when they are told, which this loop then tells too
        try:
            while self._events:
                news = self._events.popleft()
                for item in self.instances.values():
                    item.tell(news)
        finally:
            self._telling = False

    async def refresh(self, kinds: set[Kind], *, announce: bool = True) -> None:
        """Ask the providers for their lists again, and tell the clients which of `kinds` to fetch anew.

        Without `announce`, only plugins are told: a bus tells the clients itself of what changed on another replica.
        """
        while True:
            seen = self.generation
            catalog = await Catalog.build(seen.catalog.providers.values(), seen.catalog)
            if seen is self.generation:
                break
        for conflict in catalog.new_conflicts(seen.catalog):
            logger.error("%s; left out until it is mended", conflict)
        self.generation = Generation(seen.pipeline, catalog)
        await self.announce(kinds, clients=announce)

    async def announce(self, kinds: set[Kind], *, clients: bool = True) -> None:
        """Tell plugins, and clients of both eras, which lists changed."""
        if kinds:
            if clients:
                await self.subscriptions.publish(dict.fromkeys(EVENT_OF[kind] for kind in Kind if kind in kinds))
            details = {"kinds": sorted(kind.value for kind in kinds)}
            self.publish(HostEvent(EventType.CATALOG_CHANGED, self.settings.name, details))

    # -- calls --------------------------------------------------------------------------------------------------------

    async def handle(self, ctx: ServerRequestContext[Any, Any], call_next: SDKCallNext) -> HandlerResult:
        """The SDK's middleware: take every message of a session or of stdio off its hands."""
        connection, dispatch = channel_of(ctx)
        params = ctx.params if ctx.params is not None else {}
        call = Call(ctx.method, params, connection=connection, dispatch=dispatch, request=ctx.request, context=ctx)

        async def by_sdk(_: Call) -> Result:
            try:
                result = await call_next(ctx)
            except ValidationError:
                raise MCPError(INVALID_PARAMS, "Invalid request parameters", "") from None
            accepted = call.is_notification and connection.initialize_accepted
            if accepted and call.method not in NOT_HANDED_ON:
                for provider in self.generation.catalog.providers.values():
                    await provider.notify(call)
            return cast("Result", result if result is not None else {})

        if call.is_notification or call.method in HANDSHAKE:
            result = await self._bounded(call, self.generation.observe(call, by_sdk))
            if call.method == "initialize":
                self.subscriptions.join(connection)
            return result
        if not connection.initialize_accepted:  # the SDK's own gate sits below this chain: a cache would answer first
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "")
        return await self.dispatch(call)

    async def exchange(
        self,
        connection: Connection,
        dispatch: DispatchContext[Any],
        method: str,
        params: Mapping[str, Any],
        request: Request,
    ) -> dict[str, Any]:
        """One request of 2026-07-28 over HTTP, without the SDK's layers in between."""
        if method in HANDSHAKE:
            return await ServerRunner(self.front, connection, {}).on_request(dispatch, method, params)
        return await self.dispatch(Call(method, params, connection=connection, dispatch=dispatch, request=request))

    async def dispatch(self, call: Call) -> dict[str, Any]:
        """Run one request through the generation in force, and finish its result.

        Raises:
            MCPError: The call was refused or failed. Nothing internal leaves (G7).
        """
        return await self._bounded(call, self._walk(call))

    async def _walk(self, call: Call) -> Result:
        generation = self.generation
        result = await generation.run(call)
        if call.method == "subscriptions/listen":
            result = await self.subscriptions.listen(call, partial(generation.admits, call))
        elif call.method in SUBSCRIBE:
            await self.subscriptions.subscribe(call)
        return finish(call, result, self.stamp)

    async def _bounded(self, call: Call, walk: Awaitable[Result]) -> dict[str, Any]:
        """Let no exception but `MCPError` out: the client gets a request id, the log the traceback (G7)."""
        try:
            return dict(await walk)
        except MCPError:
            raise
        except Exception:
            logger.exception("request %s failed: %r", call.request_id, call)
            raise MCPError(INTERNAL_ERROR, "Internal error", {"requestId": call.request_id}) from None

    # -- what operators ask -------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What runs, as JSON: the host, its plugin instances and its providers."""
        layers = self.generation.pipeline.layers
        plugins = [
            {
                "name": item.name,
                "plugin": item.kind,
                "version": item.plugin.version,
                "status": "active",
                "reason": "",
                "remedy": "",
                "position": [f"{at.phase.name} {layers.index(at) + 1}" for at in layers if at.instance == item.name],
                "hooks": sorted(caller.name for caller in item.manager.get_hookcallers(item.plugin) or ()),
            }
            for item in self.instances.values()
        ]
        plugins += [
            {"name": name, "plugin": name, "status": "failed", "reason": reason, "remedy": remedy}
            for name, (reason, remedy) in self.failed.items()
            if name not in self.instances
        ]
        providers = [
            {
                "name": provider.name,
                "prefix": provider.prefix,
                "status": "up" if provider.capabilities(LATEST_HANDSHAKE_VERSION) else "down",
                "kind": type(provider).__name__,
            }
            for provider in self.generation.catalog.providers.values()
        ]
        host = {"name": self.settings.name, "version": self.version, "listen": self.settings.listen}
        return {"host": host, "plugins": plugins, "providers": providers}

    def chain(self, target: str | None = None, method: str = "tools/call") -> list[dict[str, Any]]:
        """The layers that a call would walk through, outside in."""
        call = host_call(method, {TARGETS[method]: target} if target is not None and method in TARGETS else {})
        if call.target is not None and not self.generation.catalog.resolve(call):
            raise PlughostError(f"no provider has {target!r}{did_you_mean(target or '', self._targets())}")
        return self.generation.pipeline.describe(call)

    def _targets(self) -> list[str]:
        return [name for routes in self.generation.catalog.routes.values() for name in routes]

    def operations(self) -> dict[str, list[dict[str, Any]]]:
        """The operations of every instance, with the JSON Schema of their parameters."""
        return {
            item.name: [
                {
                    "name": found.name,
                    "summary": found.summary,
                    "changes": found.changes,
                    "parameters": found.parameters.model_json_schema(),
                }
                for found in item.contributed("plughost_operations")
            ]
            for item in self.instances.values()
        }

    async def run_operation(self, instance: str, operation: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run an operation of a plugin instance and return its JSON value.

        Raises:
            PluginError: There is no such instance or operation.
            ConfigError: The parameters are refused.
        """
        item = self.instances.get(instance)
        if item is None:
            raise PluginError(instance, f"is not registered{did_you_mean(instance, self.instances)}")
        found: dict[str, Operation] = {found.name: found for found in item.contributed("plughost_operations")}
        if operation not in found:
            remedy = f"Operations are: {', '.join(found) or 'none'}"
            raise item.error(f"has no operation {operation!r}{did_you_mean(operation, found)}", remedy=remedy)
        model = found[operation].parameters
        try:
            arguments = model.model_validate(parameters or {})
        except ValidationError as error:
            raise ConfigError(faults_of(error, model), source=f"{instance} {operation}") from None
        return await found[operation].run(arguments)

    def __repr__(self) -> str:
        return f"<Host {self.settings.name!r}: {len(self.instances)} plugins, {self.generation.catalog!r}>"


_SYSTEM_CLOCK = SystemClock()

_IN_REGISTER = ContextVar("plughost_in_register", default=False)
"""Set in the task that runs a plugin's `register()`."""


def _as_provider(name: str, given: Any) -> Provider:
    return cast("Provider", given) if hasattr(given, "serves") else InProcessProvider(name, given)


def create_host(
    config: HostConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    providers: Mapping[str, object] | None = None,
    plugins: Sequence[MCPPlugin[Any]] = (),
    trace: bool = False,
) -> Host:
    """The server factory: from one config to a server with its middleware applied.

    `config` is a `HostConfig`, a mapping of the same shape as the TOML, or a path. `providers` maps names to SDK server
    objects, or to `Provider` objects of these names; `plugins` adds plugin objects without an entry point.

    Raises:
        ConfigError: Names every fault of the config.
        ProviderError: One of `providers` is not a server.
    """
    return Host(load_config(config if config is not None else {}), providers=providers, plugins=plugins, trace=trace)
