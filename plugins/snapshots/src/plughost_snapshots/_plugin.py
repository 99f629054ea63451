"""The plugin: takes snapshots while events come, and shows states."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from plughost import MCPPlugin, Operation, PluginConfig, hookimpl
from plughost_events import EventStore, load_reducer
from pydantic import Field

from plughost_snapshots._config import SnapshotsConfig
from plughost_snapshots._snapshots import Snapshots

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.snapshots")
_taken = metrics.get_meter("plughost.snapshots").create_counter(
    "plughost.snapshots.taken", unit="{snapshot}", description="Snapshots that were taken."
)


class StateParameters(PluginConfig):
    """Whose state."""

    stream: str
    """The stream, for example `principal:ada`."""
    reducer: str = "activity"
    """The name of the reducer."""
    at: int | None = Field(default=None, ge=1)
    """The version; the newest by default."""


class TakeParameters(PluginConfig):
    """Whose state to keep."""

    stream: str
    """The stream, for example `principal:ada`."""
    reducer: str = "activity"
    """The name of the reducer."""


class ClearParameters(PluginConfig):
    """Which snapshots to drop."""

    stream: str | None = None
    """A stream; all of them without one."""
    reducer: str = "activity"
    """The name of the reducer."""


class SnapshotsPlugin(MCPPlugin[SnapshotsConfig]):
    """Keeps the state of streams beside their events, so that nobody has to read them all again."""

    requires = (EventStore,)
    provides = (Snapshots,)

    async def register(self, host: Host) -> None:
        self._folder = host.config.folder
        self._clock = host.clock
        self._store: EventStore = host.get(EventStore)  # type: ignore[type-abstract]  # shared under its protocol
        self.snapshots = Snapshots(self._store, host.clock, every=self.config.every)
        self._added = self._add(self.config)
        self._due = asyncio.Event()
        self._forget = self._store.watch(self._appended)
        self._tasks = [asyncio.create_task(self._take_what_is_due(), name=f"{self.name} taker")]
        self._restart_timer()
        host.provide(Snapshots, self.snapshots)

    async def unregister(self) -> None:
        self._forget()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def reconfigure(self, config: SnapshotsConfig) -> bool:
        """Take another policy and other reducers in place; what was kept stays."""
        for remove in self._added:
            remove()
        try:
            self._added = self._add(config)
        except BaseException:
            self._added = self._add(self.config)
            raise
        self.config = config
        self.snapshots.every = config.every
        self._restart_timer()
        return True

    def _add(self, config: SnapshotsConfig) -> list[Callable[[], None]]:
        loaded = [(name, load_reducer(name, self._folder), streams) for name, streams in config.reducers.items()]
        return [self.snapshots.add(name, reducer, streams=streams) for name, reducer, streams in loaded]

    def _restart_timer(self) -> None:
        for task in self._tasks[1:]:
            task.cancel()
        del self._tasks[1:]
        if self.config.seconds is not None:
            self._tasks.append(asyncio.create_task(self._look(self.config.seconds), name=f"{self.name} timer"))

    # -- when -----------------------------------------------------------------------------------------------------

    def _appended(self, stream: str, before: int, now: int) -> None:
        if self.snapshots.appended(stream, before, now):
            self._due.set()

    async def _look(self, seconds: float) -> None:
        while True:
            await self._clock.sleep(seconds)
            for stream in tuple(self.snapshots.changed):
                self.snapshots.want(stream)
            self._due.set()

    async def _take_what_is_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            while self.snapshots.wanted:
                stream, reducer = next(iter(self.snapshots.wanted))
                del self.snapshots.wanted[stream, reducer]
                try:
                    await self.snapshots.take(stream, reducer)
                    _taken.add(1)
                except Exception:
                    logger.warning("no snapshot of %r was taken by %r", stream, reducer, exc_info=True)

    # -- operations -----------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="The policy, the reducers, and of which streams a state is kept."),
            Operation("state", self.state, parameters=StateParameters, summary="The state of a stream."),
            Operation("take", self.take, parameters=TakeParameters, changes=True, summary="Keep a stream's state now."),
            Operation("clear", self.clear, parameters=ClearParameters, changes=True, summary="Drop snapshots."),
        ]

    async def show(self, _: object) -> dict[str, Any]:
        """The policy, the reducers, and of which streams a state is kept."""
        reducers = self.snapshots.reducers
        kept = {name: dict(await self._store.snapshots(name)) for name in reducers}
        return {"every": self.snapshots.every, "reducers": reducers, "taken": self.snapshots.taken, "kept": kept}

    async def state(self, wanted: StateParameters) -> dict[str, Any]:
        """The state of a stream."""
        found = await self.snapshots.reconstruct(wanted.stream, wanted.reducer, at=wanted.at)
        return {
            "stream": found.stream,
            "version": found.version,
            "state": found.state,
            "snapshot": found.snapshot,
            "events": found.events,
            "complete": found.complete,
        }

    async def take(self, wanted: TakeParameters) -> dict[str, Any]:
        """Keep a stream's state now."""
        found = await self.snapshots.take(wanted.stream, wanted.reducer)
        return {"stream": found.stream, "version": found.version, "complete": found.complete}

    async def clear(self, wanted: ClearParameters) -> dict[str, int]:
        """Drop snapshots; they are made anew as events come."""
        return {"dropped": await self._store.drop_snapshots(wanted.reducer, wanted.stream)}
