"""One configured use of a plugin: its object, its task, and what it contributes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import anyio
import pluggy
from anyio.abc import TaskGroup, TaskStatus

from plughost._conformance import faults_of_class
from plughost._errors import ConfigError, PluginError, located
from plughost._events import HostEvent
from plughost._pipeline import Layer, Publish, layers_of
from plughost._plugin import MCPPlugin
from plughost._shared import Clock
from plughost.hookspecs import new_plugin_manager

if TYPE_CHECKING:
    from plughost._config import PluginTable

logger = logging.getLogger("plughost")


class Lifecycle:
    """Runs start and stop of one thing in one task of its own, so that what start enters, stop can leave.

    Whatever goes wrong in between stays in that task: it is logged, and nobody else is cancelled.
    """

    def __init__(self, what: str, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        self._what = what
        self._start = start
        self._stop = stop
        self._scope = anyio.CancelScope()
        self._leave = anyio.Event()
        self._left = anyio.Event()

    async def enter(self, tasks: TaskGroup) -> None:
        """Run start; raises what it raises."""
        await tasks.start(self._run)

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        started = False
        try:
            with self._scope:
                await self._start()
                started = self._scope.shield = True  # only `leave` ends it, so that stop can always run to its end
                task_status.started()
                try:
                    await self._leave.wait()
                finally:
                    await self._stop()
        except BaseException:
            if not started:
                raise
            logger.exception("%s failed%s", self._what, " while it stopped" * self._leave.is_set())
        finally:
            self._left.set()

    async def leave(self, limit: float) -> None:
        """Run stop and wait for it, at most `limit` seconds; then it is cancelled."""
        self._leave.set()
        with anyio.move_on_after(limit) as waiting:
            await self._left.wait()
        if waiting.cancelled_caught:
            logger.error("%s did not stop within %s s", self._what, limit)
            self._scope.shield = False
            self._scope.cancel()
            await self._left.wait()


@dataclass(eq=False, slots=True)
class Instance:
    """A plugin instance that is, or is about to be, registered."""

    plugin: MCPPlugin[Any]
    kind: str
    table: PluginTable
    origin: str = ""
    manager: pluggy.PluginManager = field(default_factory=new_plugin_manager)
    lifecycle: Lifecycle | None = None
    shared: dict[type, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.plugin.name

    def check(self) -> None:
        """Validate every hook implementation.

        Raises:
            PluginError: Names what is wrong with which.
        """
        for fault in faults_of_class(type(self.plugin)):
            raise self.error(fault)
        try:
            self.manager.register(self.plugin, self.name)
        except pluggy.PluginValidationError as error:
            raise self.error(" ".join(str(error).split()), remedy="Compare it with plughost.hookspecs") from error

    def contributed(self, hook: str, **arguments: Any) -> list[Any]:
        """What one of its hooks returns.

        Raises:
            ConfigError: The hook found something wrong with the configuration.
            PluginError: The hook raised, or did not return a list.
        """
        try:
            found = getattr(self.manager.hook, hook)(**arguments)
            for items in found:
                if not isinstance(items, Iterable):
                    raise self.error(f"{hook} returned {items!r}, which is not a list", remedy="Put it into one")
            return [item for items in found for item in items]
        except (ConfigError, PluginError):
            raise
        except Exception as error:
            raise self.failure(hook, error) from error

    def layers(self, publish: Publish) -> list[Layer]:
        return layers_of(self.plugin, self.kind, self.table.match, self.contributed("plughost_middleware"), publish)

    def wrapped(self, layer: Layer) -> Layer:
        """The layer with what this plugin wants to run in place of its handler.

        Raises:
            PluginError: The hook raised.
        """
        hook = self.manager.hook.plughost_layer
        if not hook.get_hookimpls():
            return layer
        try:
            found = hook(instance=layer.instance, phase=layer.phase, handler=layer.handler)
        except Exception as error:
            raise self.failure("plughost_layer", error) from error
        return replace(layer, handler=found[0]) if found else layer

    def tell(self, event: HostEvent) -> None:
        """Deliver an event; a plugin that raises only loses this one."""
        try:
            self.manager.hook.plughost_event(event=event)
        except Exception:
            logger.exception("plughost_event of plugin %r raised", self.name)

    def error(self, problem: str, *, remedy: str = "") -> PluginError:
        return PluginError(self.name, problem, origin=self.origin, remedy=remedy)

    def failure(self, what: str, error: Exception, *, remedy: str = "") -> PluginError:
        """The error that says of something of the plugin that it raised, and where."""
        return self.error(f"{what} raised {located(error, type(self.plugin).__module__)}", remedy=remedy)


def providers_of(instances: Iterable[Instance]) -> dict[type, Instance]:
    """Who provides what: each shared type has one provider, or the order of two would decide in silence.

    Raises:
        PluginError: Two provide the same.
    """
    found: dict[type, Instance] = {}
    for item in instances:
        for shared in item.plugin.provides:
            first = found.setdefault(shared, item)
            if first is not item:
                problem = f"provides {shared.__name__}, and plugin {first.name!r} does too; only one can"
                raise item.error(problem, remedy=f"Disable {first.name!r} or {item.name!r}")
    return found


def in_order(instances: Iterable[Instance], available: Iterable[type]) -> list[Instance]:
    """Instances so that each comes after those that provide what it requires.

    Raises:
        PluginError: Something required is provided by nobody, or by two, or the requirements form a cycle.
    """
    instances = list(instances)
    providers = providers_of(instances)
    graph: dict[int, set[int]] = {}
    index = {id(item): position for position, item in enumerate(instances)}
    for position, item in enumerate(instances):
        graph[position] = set()
        wanted = {*item.plugin.requires} | ({Clock} & providers.keys() - {*item.plugin.provides})  # all tell the time
        for needed in sorted(wanted, key=lambda shared: shared.__qualname__):
            if needed in providers:
                graph[position].add(index[id(providers[needed])])
            elif needed not in set(available):
                raise item.error(f"requires {needed.__name__}, which no enabled plugin provides", remedy="Enable one")
    try:
        return [instances[position] for position in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        names = " -> ".join(instances[position].name for position in error.args[1])
        raise PluginError(instances[error.args[1][0]].name, f"requirements form a cycle: {names}") from None
