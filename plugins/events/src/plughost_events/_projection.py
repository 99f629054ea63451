"""Projections: what all events together say, kept up to date while events come."""

from __future__ import annotations

from plughost_events._reduce import Reducer, State
from plughost_events._store import EventStore


class Projection:
    """The state that a reducer makes of all events, from the first one on.

        orders = Projection(store, totals)
        await orders.catch_up()
        print(orders.state)

    `follow()` runs in a task of its own and never ends. A reducer that changed is run anew from zero with `rebuild()`.
    """

    def __init__(self, store: EventStore, reducer: Reducer) -> None:
        self.state: State = {}
        self.position = 0
        """The newest event that is in the state."""
        self._store = store
        self._reducer = reducer

    async def catch_up(self) -> State:
        """Take in what is stored by now."""
        async for event in self._store.read(after=self.position):
            self.state, self.position = self._reducer(self.state, event), event.position
        return self.state

    async def rebuild(self) -> State:
        """Forget the state, and make it anew."""
        self.state, self.position = {}, 0
        return await self.catch_up()

    async def follow(self) -> None:
        """Take in every event as it comes."""
        async for event in self._store.subscribe(after=self.position):
            self.state, self.position = self._reducer(self.state, event), event.position

    def __repr__(self) -> str:
        return f"<Projection at position {self.position}>"
