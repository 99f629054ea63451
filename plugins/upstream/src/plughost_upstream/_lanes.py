"""Which lane a client takes: the one of its own era, where the upstream speaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
from anyio.abc import TaskGroup
from plughost import Call, ProviderEvent, ResourceChanged

from plughost_upstream._config import Era, Upstream
from plughost_upstream._guard import Guard
from plughost_upstream._lane import Lane
from plughost_upstream._session import Session
from plughost_upstream._shape import is_modern

SAME_NEWS = 0.2
"""Seconds within which both eras' sessions tell of the same change of a resource."""


class Lanes:
    """The lanes to one upstream.

    The first one speaks the newest revision that the upstream knows. If that is 2026-07-28, clients of earlier
    revisions get a lane of their own era, opened when the first of them comes; if the upstream knows no earlier one,
    they take the first one and are bridged.
    """

    def __init__(
        self,
        upstream: Upstream,
        guard: Guard,
        *,
        emit: Callable[[ProviderEvent], None],
        changed: Callable[[], None],
    ) -> None:
        self._upstream = upstream
        self._guard = guard
        self._emit = emit
        self._changed = changed
        self._told: dict[str, tuple[Lane, float]] = {}
        self._tasks: TaskGroup | None = None
        self._one_era = upstream.table.protocol != "auto"
        self.first = self._make(upstream.table.protocol)
        self._legacy: Lane | None = None

    def __iter__(self) -> Iterator[Lane]:
        yield self.first
        if self._legacy is not None:
            yield self._legacy

    def start(self, tasks: TaskGroup) -> None:
        """Start to connect."""
        self._tasks = tasks
        self.first.start(tasks)

    def reconsider(self) -> None:
        """The first lane has a new session: the upstream may know other revisions now."""
        self._one_era = self._upstream.table.protocol != "auto"

    def known(self, version: str) -> Session | None:
        """The session that tells what clients at this revision get, as far as one was opened yet."""
        own = self._legacy if self._legacy is not None and not is_modern(version) else self.first
        return own.first.live or self.first.first.session

    async def of(self, call: Call) -> Lane:
        """The lane of a call's client, opened if it is the first of its era."""
        if self._one_era or not self.first.modern or is_modern(call.protocol_version):
            return self.first
        if self._legacy is None:
            assert self._tasks is not None
            self._legacy = self._make("legacy")
            self._legacy.watches.want(*self.first.watches.uris)
            self._legacy.start(self._tasks)
        lane = self._legacy
        with anyio.move_on_after(self._upstream.start_timeout):
            await lane.first.tried.wait()
        if lane.first.live is None and lane.first.refused:
            self._one_era, self._legacy = True, None
            lane.stop()
        return lane if lane.first.live is not None else self.first

    def forget(self, uri: str) -> None:
        """A resource is watched no more."""
        self._told.pop(uri, None)

    def _make(self, era: Era) -> Lane:
        def told(event: ProviderEvent) -> None:
            if not isinstance(event, ResourceChanged) or self._is_new(lane, event.uri):
                self._emit(event)

        lane = Lane(self._upstream, self._guard, era, emit=told, changed=self._changed)
        return lane

    def _is_new(self, lane: Lane, uri: str) -> bool:
        """Whether no other lane has told of this change a moment ago."""
        now = anyio.current_time()
        other, when = self._told.get(uri, (lane, 0.0))
        if other is not lane and now - when < SAME_NEWS:
            return False
        self._told[uri] = (lane, now)
        return True
