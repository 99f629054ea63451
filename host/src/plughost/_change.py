"""A change of what runs: built beside it, swapped in at once, undone as a whole if any part fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.exceptions import MCPError

from plughost._catalog import Catalog
from plughost._config import UPSTREAM, HostConfig, PluginTable, parse_plugin_config
from plughost._discovery import discover, load_class, resolve
from plughost._errors import ConfigError, Fault, PlughostError, PluginError
from plughost._events import HostEvent
from plughost._generation import Generation
from plughost._http import HTTPStack
from plughost._inprocess import InProcessProvider, load_server
from plughost._instance import Instance, in_order
from plughost._pipeline import Pipeline
from plughost._plugin import MCPPlugin, PluginConfig
from plughost._provider import Provider

if TYPE_CHECKING:
    from plughost._host import Host

logger = logging.getLogger("plughost")


class Change:
    """From what runs to what `config` and the plugin objects want. `build()`, then `swap()`."""

    def __init__(self, host: Host, config: HostConfig, objects: Sequence[MCPPlugin[Any]]) -> None:
        self.host = host
        self.config = config
        self.objects = objects
        self.instances: dict[str, Instance] = {}
        self.failed: dict[str, PlughostError] = {}
        self.python: dict[str, tuple[Any, InProcessProvider]] = {}
        self._new: list[Instance] = []
        self._started: list[Provider] = []
        self._wishes: list[tuple[Instance, PluginTable, PluginConfig]] = []
        self._reconfigured: list[tuple[Instance, PluginTable, PluginConfig]] = []
        self._begin = time.perf_counter()

    async def build(self) -> None:
        """Load, register, start and compile all that is wanted. If anything fails, undo it and raise.

        Raises:
            PlughostError: Names what failed; the host is as before.
        """
        try:
            self.plan()
            await self._register_new()
            await self._reconfigure()
            providers = self._providers()
            for provider in providers:
                if await self.host.start_provider(provider):
                    self._started.append(provider)
            instances = self.instances.values()
            layers = [layer for item in instances for layer in item.layers(self.host.publish)]
            self.http = HTTPStack.of(instances)
            pipeline = Pipeline(layers, trace=self.host.trace)
            catalog = await Catalog.build(providers)
            known = {str(conflict) for conflict in self.host.generation.catalog.conflicts}
            for conflict in catalog.conflicts:
                if str(conflict) not in known:
                    raise conflict
            self.generation = Generation(pipeline, catalog)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._undo()
            if isinstance(error, PlughostError | MCPError) or not isinstance(error, Exception):
                raise
            logger.exception("a change failed and was undone")
            raise PlughostError(f"{type(error).__name__}: {error}") from error

    # -- what is wanted -----------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Decide for every instance whether it stays, changes in place, or is made new."""
        faults: list[Fault] = []
        tables = {name: table for name, table in self.config.instances.items() if table.enabled}
        sources = discover() if tables else {}
        for name, table in tables.items():
            running = self.host.instances.get(name)
            if running is not None and running.table == table:
                self.instances[name] = running
                continue
            try:
                source = resolve(name, table, sources, self.config.folder)
                kind = load_class(source, instance=name)
                settings = parse_plugin_config(kind, table, name)
            except ConfigError as error:
                faults += error.faults
            except PluginError as error:
                if table.required:
                    raise
                self.failed[name] = error
            else:
                in_place = running is not None and type(running.plugin) is kind and running.table.match == table.match
                if running is not None and in_place:
                    self.instances[name] = running
                    self._wishes.append((running, table, settings))
                else:
                    plugin = kind(settings, name=name, version=source.version)
                    self._add(Instance(plugin, source.name, table, source.origin))
        if faults:
            raise ConfigError(faults, source=str(self.config.source or "configuration"))
        for plugin in self.objects:
            running = self.host.instances.get(plugin.name)
            if running is not None and running.plugin is plugin:
                self.instances[plugin.name] = running
            elif plugin.name in self.instances:
                raise PluginError(plugin.name, "is in the configuration already", remedy="Give the object another name")
            else:
                table = self.host.tables.get(plugin.name, PluginTable())
                kind = type(plugin)
                self._add(Instance(plugin, plugin.name, table, f"{kind.__module__}.{kind.__qualname__}"))

    def _add(self, instance: Instance) -> None:
        instance.check()
        self.instances[instance.name] = instance
        self._new.append(instance)

    def _replace(self, old: Instance, table: PluginTable, settings: PluginConfig) -> Instance:
        plugin = type(old.plugin)(settings, name=old.name, version=old.plugin.version)
        fresh = Instance(plugin, old.kind, table, old.origin)
        self._add(fresh)
        return fresh

    async def _register_new(self) -> None:
        self.instances = {item.name: item for item in in_order(self.instances.values(), self.host.shared_types)}
        changing = {shared for item in self._new for shared in item.plugin.provides}
        for item in list(self.instances.values()):
            if item not in self._new and changing.intersection(item.plugin.requires):
                self._replace(item, item.table, item.plugin.config)
        for item in list(self.instances.values()):
            if item in self._new:
                await self._register(item)

    async def _register(self, item: Instance) -> None:
        try:
            await self.host.register_instance(item, self.instances)
        except PluginError as error:
            self._new.remove(item)
            if item.table.required:
                raise
            self.failed[item.name] = error
            del self.instances[item.name]

    async def _reconfigure(self) -> None:
        for item, table, settings in self._wishes:
            before = (item, item.table, item.plugin.config)
            try:
                taken = await item.plugin.reconfigure(settings)
            except Exception as error:
                raise item.error(f"reconfigure() raised {type(error).__name__}: {error}") from error
            if taken:
                item.table, item.plugin.config = table, settings
                self._reconfigured.append(before)
            else:
                await self._register(self._replace(item, table, settings))

    def _providers(self) -> list[Provider]:
        """All providers: those of the config in its order, then those given as objects, then the plugins' own."""
        found: dict[str, Provider] = {}
        for name, table in self.config.providers.items():
            if table.python is not None:
                known = self.host.python.get(name)
                if known is None or known[0] != table:
                    server = load_server(name, table.python, self.config.folder)
                    known = (table, InProcessProvider(name, server, prefix=table.prefix))
                self.python[name] = known
                found[name] = known[1]
        found.update(self.host.given)
        for item in self.instances.values():
            for provider in item.contributed("plughost_providers", config=self.config):
                if provider.name in found:
                    raise item.error(f"brings the provider {provider.name!r}, which exists already")
                found[provider.name] = provider
        missing = [name for name in self.config.providers if name not in found]
        if missing:
            remedy = "Enable it in [plugins.upstream]"
            raise PluginError(UPSTREAM, f"is disabled, but provider {missing[0]!r} needs it", remedy=remedy)
        rank = {name: position for position, name in enumerate((*self.config.providers, *self.host.given))}
        return sorted(found.values(), key=lambda provider: rank.get(provider.name, len(rank)))

    # -- the end of it, either way ------------------------------------------------------------------------------------

    async def _undo(self) -> None:
        for provider in self._started:
            await self.host.stop_provider(provider)
        for item in reversed(self._new):
            await self.host.unregister_instance(item)
        for item, table, settings in self._reconfigured:
            item.table, item.plugin.config = table, settings
            await item.plugin.reconfigure(settings)

    async def swap(self) -> dict[str, Any]:
        """Let new calls take what was built, drain the old, release what is gone, and tell everybody."""
        host = self.host
        old, old_http, before = host.generation, host.http, host.instances
        gone = [item for item in before.values() if self.instances.get(item.name) is not item]
        host.generation, host.http, host.instances = self.generation, self.http, self.instances
        host.failed, host.python = self.failed, self.python
        draining = old.pipeline.gate.inside
        if old_http.key != self.http.key:
            host.end_streams()
            await host.drain(old_http.gate)
        providers = {id(provider) for provider in self.generation.catalog.providers.values()}
        left = [provider for provider in old.catalog.providers.values() if id(provider) not in providers]
        await host.subscriptions.adopt(self._started)
        await host.announce(old.catalog.changed_kinds(self.generation.catalog))
        if gone or left:
            await host.drain(old.pipeline.gate)
        for provider in left:
            await host.stop_provider(provider)
        for item in reversed(gone):
            await host.unregister_instance(item)
        return self._report(before, gone, draining)

    def _report(self, before: Mapping[str, Instance], gone: Sequence[Instance], drained: int) -> dict[str, Any]:
        ms = round((time.perf_counter() - self._begin) * 1e3, 3)
        actions = {item.name: "replaced" if item.name in self.instances else "unregistered" for item in gone}
        actions |= {item.name: "reconfigured" for item, _, _ in self._reconfigured}
        actions |= {name: "registered" for name in self.instances if name not in before}
        left = {item.name for item in gone}
        changed = [
            {"name": name, "action": action, "drained": drained if name in left else 0, "ms": ms}
            for name, action in actions.items()
        ]
        for entry in changed:
            self.host.publish(HostEvent(f"plugin.{entry['action']}", str(entry["name"]), entry))
        for name, error in self.failed.items():
            self.host.publish(HostEvent("plugin.failed", name, {"reason": str(error)}))
        return {"changed": changed}
