"""Reducers: what a state is, told as a function from the state so far and the next event."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from functools import reduce as walk
from importlib import import_module
from pathlib import Path
from typing import Any

from plughost import PlughostError

from plughost_events._event import Event

State = dict[str, Any]
Reducer = Callable[[State, Event], State]
"""Takes the state so far, `{}` at first, and the next event; returns the state, the same object or another.

A state is a JSON object. An attribute `schema` of the function (1 without it) counts the revisions of its shape.
"""


def activity(state: State, event: Event) -> State:
    """Counts what happened: events by type, calls by method, target and outcome, and their time; the first and last."""
    data = event.data or {}
    state["events"] = state.get("events", 0) + 1
    _count(state, "types", event.type)
    if "outcome" in data:
        state["calls"] = state.get("calls", 0) + 1
        state["duration_us"] = state.get("duration_us", 0) + data.get("duration_us", 0)
        _count(state, "methods", data.get("method"))
        _count(state, "targets", data.get("target"))
        _count(state, "outcomes", data["outcome"])
    state.setdefault("first", event.time)
    state["last"] = event.time
    return state


def _count(state: State, what: str, key: str | None) -> None:
    if key is not None:
        counts = state.setdefault(what, {})
        counts[key] = counts.get(key, 0) + 1


def load_reducer(reference: str, folder: Path | None = None) -> Reducer:
    """The reducer that `activity`, or `module:function`, names; the module is searched in `folder` first.

    Raises:
        PlughostError: Names what could not be imported or found.
    """
    if reference == "activity":
        return activity
    module, _, attribute = reference.partition(":")
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = walk(getattr, attribute.split("."), import_module(module))
    except (Exception, SystemExit) as error:
        problem = f"the reducer {reference!r} failed: {type(error).__name__}: {error}"
        raise PlughostError(f"{problem}; write 'activity', or 'module:function'") from error
    if not callable(found):
        raise PlughostError(f"the reducer {reference!r} is {found!r}, not a function of a state and an event")
    reducer: Reducer = found
    return reducer


def schema_of(reducer: Reducer) -> int:
    """The revision of the state's shape."""
    return int(getattr(reducer, "schema", 1))


async def fold(reducer: Reducer, events: AsyncIterator[Event], state: State | None = None) -> State:
    """The state after all of the events."""
    state = {} if state is None else state
    async for event in events:
        state = reducer(state, event)
    return state
