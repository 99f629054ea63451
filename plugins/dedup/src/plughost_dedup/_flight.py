"""Single flight: concurrent callers of one key share one execution.

The term is that of Go's `golang.org/x/sync/singleflight`. There a caller runs the work for all; here the work is a task
of its own, so that the first caller can give up without failing the others, and nobody has to run it again.
"""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import anyio

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True, slots=True)
class ForOne(Generic[T]):
    """What a work returns to say: this outcome is for the caller that started me; each other runs its own work."""

    outcome: T | Exception


class SingleFlight(Generic[T]):
    """Executions under way, by key.

        flights = SingleFlight[dict[str, Any]]()
        result = await flights.run(key, work)

    The work runs in the context variables of the first caller. It is cancelled when the last caller has given up, and
    that one waits until the work has ended, as if it had run it itself.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}
        self.started = 0
        """Executions so far."""
        self.joined = 0
        """Callers so far that found one under way."""

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T | ForOne[T]]], *, home: object = None) -> T:
        """What `work()` returns or raises: of the execution under way for `key`, or of a new one.

        A result that several callers get is a copy for each. So is an exception: raising it in one of them adds
        nothing to the traceback that another sees. An outcome `ForOne` is shared with nobody.

        `home` is whatever must not go away while the work runs, by identity. The last caller of the home that the work
        was started in stays until it has ended, even cancelled, if callers from elsewhere still wait for it.
        """
        flight = self._flights.get(key)
        if starts := flight is None:
            self.started += 1
            flight = self._flights[key] = _Flight(self._flights, key, home)
            flight.task = _started(flight.fly(work))
        else:
            self.joined += 1
            flight.alone = False
        if not flight.task.done():
            await flight.wait(home)
        elif flight.task.cancelled():
            raise asyncio.CancelledError
        if flight.for_one and not starts:
            return _own(await work())
        if flight.error is None:
            result = cast("T", flight.result)
            return result if flight.alone or flight.for_one else copied(result)
        error = flight.error if flight.alone else fresh(flight.error)
        if not flight.waiting:
            flight.error = None  # its traceback leads back to the flight
        try:
            raise error
        finally:
            del error, flight  # the traceback holds this frame

    async def aclose(self) -> None:
        """Cancel what is under way, and wait for its end."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.abandon()
        if flights:
            await asyncio.wait([flight.task for flight in flights])

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    def __repr__(self) -> str:
        return f"<SingleFlight {len(self)} under way, {self.started} started, {self.joined} joined>"


class _Flight(Generic[T]):
    """One execution, and who waits for it."""

    __slots__ = ("_flights", "_home", "_key", "alone", "error", "for_one", "result", "task", "waiting")

    task: asyncio.Task[None]

    def __init__(self, flights: dict[Hashable, _Flight[T]], key: Hashable, home: object) -> None:
        self._flights = flights
        self._key = key
        self._home = home
        self.waiting: dict[asyncio.Future[None], object] = {}
        self.alone = True
        self.for_one = False
        self.result: T | None = None
        self.error: Exception | None = None

    async def fly(self, work: Callable[[], Awaitable[T | ForOne[T]]]) -> None:
        landed = False
        try:
            found = await work()
            if isinstance(found, ForOne):
                self.for_one = True
                found = _own(found)
            self.result = found
            landed = True
        except Exception as error:  # noqa: BLE001 - each caller raises it
            self.error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # without this frame
            landed = True
        finally:
            self._forget()
            for waiter in self.waiting:
                if not landed:
                    waiter.cancel()
                elif not waiter.done():
                    waiter.set_result(None)

    def abandon(self) -> None:
        """Cancel the work, and with it who waits for it, even if it has not begun."""
        self._forget()
        self.task.cancel()
        for waiter in self.waiting:
            waiter.cancel()

    async def wait(self, home: object) -> None:
        """Wait for the end of the work."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiting[waiter] = home
        try:
            await waiter
        except asyncio.CancelledError:
            await self.leave(waiter)
            raise
        del self.waiting[waiter]

    async def leave(self, waiter: asyncio.Future[None]) -> None:
        """Take a caller out that gave up; with the last one, end the work."""
        home = self.waiting.pop(waiter, None)
        if self.task.done():
            return
        if not self.waiting:
            self._forget()
            self.task.cancel()
        elif home is not self._home or any(other is home for other in self.waiting.values()):
            return
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self.task])

    def _forget(self) -> None:
        """Let nobody join any more."""
        if self._flights.get(self._key) is self:
            del self._flights[self._key]


def _started(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task for the work; where Python can, its first step is done at once, and all of it if it never waits."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.create_task(work)


def _own(found: T | ForOne[T]) -> T:
    """The result, for the caller that it is for."""
    if not isinstance(found, ForOne):
        return found
    if isinstance(found.outcome, Exception):
        raise found.outcome
    return found.outcome


def copied(value: T) -> T:
    """A copy of a JSON value that shares no object with it that could be changed."""
    return cast("T", _copied(value))


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {name: _copied(item) for name, item in value.items()}
    if kind is list:
        return [_copied(item) for item in value]
    if value is None or kind in _SCALARS:
        return value
    return copy.deepcopy(value)


_SCALARS = frozenset({str, int, float, bool, bytes})


def fresh(error: E) -> E:
    """Another exception of the same type with the same contents, cause and traceback."""
    kind = type(error)
    try:
        clone = copy.copy(error)
    except Exception:  # noqa: BLE001 - a constructor that does not take what it stored in `args`
        clone = kind.__new__(kind, *error.args)
        clone.__dict__.update(error.__dict__)
    clone.args = error.args
    if hasattr(clone, "__notes__"):
        clone.__notes__ = list(error.__notes__)
    clone.__cause__, clone.__context__ = error.__cause__, error.__context__
    clone.__suppress_context__ = error.__suppress_context__
    return clone.with_traceback(error.__traceback__)
