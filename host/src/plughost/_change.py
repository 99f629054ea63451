"""A change of what runs: built beside it, swapped in at once, undone as a whole if any part fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from plughost._catalog import Catalog
from plughost._config import UPSTREAM, HostConfig, PluginTable, parse_plugin_config
from plughost._discovery import discover, load_class, resolve
from plughost._errors import ConfigError, Fault, PlughostError, PluginError, ProviderError, did_you_mean
from plughost._events import EventType, HostEvent
from plughost._generation import Generation
from plughost._http import HTTPStack
from plughost._inprocess import InProcessProvider, load_server
from plughost._instance import Instance, in_order, providers_of
from plughost._lock import NAME as LOCK_FILE
from plughost._lock import Lock
from plughost._pipeline import Pipeline, traced
from plughost._plugin import MCPPlugin, PluginConfig
from plughost._provider import Kind, Provider

if TYPE_CHECKING:
    from plughost._host import Host

logger = logging.getLogger("plughost")

Objects = Sequence[tuple[MCPPlugin[Any], PluginTable]]
"""Plugin objects given in code, with the common keys of their instances."""


class Change:
    """From what runs to what `config` and the plugin objects want. `build()`, then `swap()`."""

    def __init__(self, host: Host, config: HostConfig, objects: Objects) -> None:
        self.host = host
        self.config = config
        self.objects = objects
        self.instances: dict[str, Instance] = {}
        self.failed: dict[str, tuple[str, str]] = {}
        self.python: dict[str, tuple[Any, InProcessProvider]] = {}
        self._new: list[Instance] = []
        self._started: list[Provider] = []
        self._wishes: list[tuple[Instance, PluginTable, PluginConfig]] = []
        self._before: list[tuple[Instance, PluginTable, PluginConfig]] = []
        self._begin = time.perf_counter()

    async def build(self) -> None:
        """Load, register, start and compile all that is wanted. If anything fails, undo it and raise.

        Raises:
            PlughostError: Names what failed; the host is as before.
        """
        try:
            self.plan()
            await self._reconfigure()
            await self._register_new()
            providers = self._providers()
            self._check_matches(providers)
            await self._start_all(providers)
            instances = self.instances.values()
            layers = [layer for item in instances for layer in item.layers(self.host.publish)]
            self.http = HTTPStack(instances, self.host.app.endpoint, self.host.settings.path)
            for item in instances:
                layers = [item.wrapped(layer) for layer in layers]
            pipeline = Pipeline(map(traced, layers) if self.host.trace else layers)
            self._seen = self.host.generation
            catalog = await Catalog.build(providers, self._seen.catalog)
            for conflict in catalog.new_conflicts(self._seen.catalog):
                raise conflict
            self.generation = Generation(pipeline, catalog)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._undo()
            if isinstance(error, PlughostError) or not isinstance(error, Exception):
                raise
            logger.exception("a change failed and was undone")
            raise PlughostError(f"{type(error).__name__}: {error}") from error

    # -- what is wanted -----------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Decide for every instance whether it stays, changes in place, or is made new.

        Raises:
            ConfigError: Names every fault of every table.
            PluginError: A plugin that is required cannot be loaded, or two provide the same.
        """
        faults: list[Fault] = []
        tables = {name: table for name, table in self.config.instances.items() if table.enabled}
        sources = discover() if tables else {}
        lock = Lock.read(self.config.folder / LOCK_FILE) if self.config.host.locked and tables else None
        for name, table in tables.items():
            running = self.host.instances.get(name)
            if running is not None:
                self.instances[name] = running
                if running.table == table and running.origin:
                    continue  # one that is a file may have been edited
            try:
                source = resolve(name, table, sources, self.config.folder)
                if lock is not None and (fault := lock.fault(name, source)) is not None:
                    faults.append(fault)
                    continue
                kind = load_class(source, instance=name)
                settings = parse_plugin_config(kind, table, name)
            except ConfigError as error:
                faults += error.faults
            except PluginError as error:
                if table.required:
                    faults.append(Fault("", str(error)))
                self._give_up(name, error)
            else:
                if running is not None and type(running.plugin) is kind and running.table == table:
                    continue
                if running is not None and type(running.plugin) is kind and running.table.match == table.match:
                    self._wishes.append((running, table, settings))
                else:
                    plugin = kind(settings, name=name, version=source.version)
                    self._add(Instance(plugin, source.name, table, source.origin))
        if faults:
            raise ConfigError(faults, source=str(self.config.source or "configuration"))
        for given, table in self.objects:
            running = self.host.instances.get(given.name)
            if given.name in self.instances:
                raise PluginError(given.name, "is in the configuration already", remedy="Give the object another name")
            if running is not None and running.plugin is given:
                self.instances[given.name] = running
            else:
                cls = type(given)
                self._add(Instance(given, given.name, table, f"{cls.__module__}.{cls.__qualname__}"))
        providers_of(self.instances.values())

    def _add(self, instance: Instance) -> None:
        instance.check()
        self.instances[instance.name] = instance
        self._new.append(instance)

    def _give_up(self, name: str, error: PluginError) -> None:
        """Go on without an instance that is not required; what runs of it keeps running."""
        self.failed[name] = (str(error), error.remedy)
        running = self.host.instances.get(name)
        if running is not None:
            self.instances[name] = running
        else:
            self.instances.pop(name, None)

    async def _reconfigure(self) -> None:
        """Ask each instance whose keys changed to take them in place; one that says no is made new."""
        for item, table, settings in self._wishes:
            self._before.append((item, item.table, item.plugin.config))
            try:
                taken = await item.plugin.reconfigure(settings)
            except Exception as error:
                raise item.failure("reconfigure()", error) from error
            if taken:
                item.table, item.plugin.config = table, settings
            else:
                self._before.pop()
                self._replace(item, table, settings)

    def _replace(self, old: Instance, table: PluginTable, settings: PluginConfig) -> None:
        if any(given is old.plugin for given, _ in self.objects):
            raise old.error(
                "requires something that is being replaced", remedy="Unregister it, and register a new object"
            )
        plugin = type(old.plugin)(settings, name=old.name, version=old.plugin.version)
        self._add(Instance(plugin, old.kind, table, old.origin))

    async def _register_new(self) -> None:
        """Register new instances in order; whoever holds something that a replaced one shared is made new too."""
        changing: set[type] = set()
        for item in in_order(self.instances.values(), self.host.shared_types):
            if item not in self._new and changing.intersection(item.plugin.requires):
                self._replace(item, item.table, item.plugin.config)
            current = self.instances[item.name]
            if current in self._new:
                changing.update(current.plugin.provides)
                await self._register(current)
        self.instances = {item.name: item for item in in_order(self.instances.values(), self.host.shared_types)}

    async def _register(self, item: Instance) -> None:
        try:
            await self.host.register_instance(item, self.instances)
        except PluginError as error:
            self._new.remove(item)
            if item.table.required:
                raise
            self._give_up(item.name, error)

    def _providers(self) -> list[Provider]:
        """All providers: those of the config in its order, then those given as objects, then the plugins' own."""
        found: dict[str, Provider] = {}
        for name, table in self.config.providers.items():
            if name in self.host.given:
                raise ProviderError(name, "is in the configuration and given in code", remedy="Rename one of them")
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
            remedy = f"Enable it in [plugins.{UPSTREAM}]"
            raise PluginError(UPSTREAM, f"is disabled, but provider {missing[0]!r} needs it", remedy=remedy)
        rank = {name: position for position, name in enumerate((*self.config.providers, *self.host.given))}
        return sorted(found.values(), key=lambda provider: rank.get(provider.name, len(rank)))

    async def _start_all(self, providers: Sequence[Provider]) -> None:
        """Start what does not run yet, all at once: upstreams that are slow to connect must not add up."""
        failures: list[Exception] = []

        async def start(provider: Provider) -> None:
            try:
                if await self.host.start_provider(provider):
                    self._started.append(provider)
            except Exception as error:  # noqa: BLE001 - raised below, when the others have settled
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            for provider in providers:
                tasks.start_soon(start, provider)
        if failures:
            raise failures[0]

    def _check_matches(self, providers: Sequence[Provider]) -> None:
        known = [provider.name for provider in providers]
        for item in self.instances.values():
            wanted = item.table.match.provider if item.table.match else None
            if wanted is not None and not set(wanted) & set("*?[") and wanted not in known:
                problem = f"matches the provider {wanted!r}, which does not exist{did_you_mean(wanted, known)}"
                raise item.error(problem, remedy=f"Providers are: {', '.join(known) or 'none'}")

    # -- the end of it, either way ------------------------------------------------------------------------------------

    async def _undo(self) -> None:
        for provider in self._started:
            await self.host.stop_provider(provider)
        for item in reversed(self._new):
            await self.host.unregister_instance(item)
        for item, table, settings in self._before:
            item.table, item.plugin.config = table, settings
            try:
                await item.plugin.reconfigure(settings)
            except Exception:
                logger.exception("plugin %r did not take its former config back", item.name)

    async def swap(self) -> dict[str, Any]:
        """Let new calls take what was built, tell everybody, drain the old, and release what is gone.

        There is no way back from here: the caller sees to it that nothing cancels it.
        """
        host = self.host
        old, old_http, before = host.generation, host.http, host.instances
        gone = [item for item in before.values() if self.instances.get(item.name) is not item]
        kept = {id(provider) for provider in self.generation.catalog.providers.values()}
        left = [provider for provider in old.catalog.providers.values() if id(provider) not in kept]
        host.generation, host.http, host.instances = self.generation, self.http, self.instances
        host.failed, host.python = self.failed, self.python
        draining = old.pipeline.gate.inside
        host.retired.append(old.pipeline.gate)
        if old_http.key == self.http.key:
            self.http.gate = old_http.gate  # the same plugins around them: open streams hold up nobody
        else:
            host.end_streams()
            host.retired.append(old_http.gate)
        kinds = old.catalog.changed_kinds(self.generation.catalog)
        await host.announce(kinds if old is self._seen else set(Kind))
        if old is not self._seen:  # the providers told of something while this was built
            host.ask_for_refresh()
        if gone or left:
            await host.drain()
        for provider in left:
            await host.stop_provider(provider)
        for item in reversed(gone):
            await host.unregister_instance(item)
        return self._report(before, gone, draining)

    def _report(self, before: Mapping[str, Instance], gone: Sequence[Instance], drained: int) -> dict[str, Any]:
        ms = round((time.perf_counter() - self._begin) * 1e3, 3)
        left = {item.name for item in gone}
        actions = dict.fromkeys(left - self.instances.keys(), EventType.PLUGIN_UNREGISTERED)
        actions |= dict.fromkeys(left & self.instances.keys(), EventType.PLUGIN_REPLACED)
        actions |= {item.name: EventType.PLUGIN_RECONFIGURED for item, _, _ in self._before}
        actions |= {name: EventType.PLUGIN_REGISTERED for name in self.instances if name not in before}
        changed = []
        for name, event in actions.items():
            count = drained - self.host.inside_retired if name in left else 0
            action = event.removeprefix("plugin.")
            changed.append({"name": name, "action": action, "drained": max(count, 0), "ms": ms})
            self.host.publish(HostEvent(event, name, changed[-1]))
        for name, (reason, _) in self.failed.items():
            self.host.publish(HostEvent(EventType.PLUGIN_FAILED, name, {"reason": reason}))
        return {"changed": changed}
