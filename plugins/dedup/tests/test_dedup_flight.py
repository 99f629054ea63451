"""Single flight, without MCP around it."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import MCPError
from plughost import ErrorCode, Refusal
from plughost_dedup import SingleFlight, copied
from plughost_dedup._flight import ForOne, fresh
from plughost_testing import VirtualClock, run

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Work:
    """Takes a second, counts how often it ran, and answers with a new value or raises a new error."""

    def __init__(self, make: Callable[[], Any] = lambda: {"items": [1]}) -> None:
        self.runs = self.cancelled = 0
        self.make = make

    async def __call__(self) -> Any:
        self.runs += 1
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(made := self.make(), Exception):
            try:
                raise made
            finally:
                del made  # or this frame and the error hold each other
        return made


class ToldError(Exception):
    """An exception whose constructor does not take what it keeps."""

    def __init__(self, name: str) -> None:
        super().__init__(f"told {name}")
        self.name = name


def start(flights: SingleFlight[Any], work: Work, key: str = "k", home: object = None) -> asyncio.Task[Any]:
    return asyncio.create_task(flights.run(key, work, home=home))


async def test_a_stampede_runs_once() -> None:
    """A thousand callers at once, one execution."""
    flights, work = SingleFlight[Any](), Work()
    assert await asyncio.gather(*(start(flights, work) for _ in range(1000))) == [{"items": [1]}] * 1000
    assert (work.runs, flights.started, flights.joined, len(flights)) == (1, 1, 999, 0)


async def test_keys_are_independent() -> None:
    """Callers of different keys run side by side."""
    flights, work = SingleFlight[Any](), Work()
    await asyncio.gather(*(start(flights, work, key=str(n)) for n in range(5)))
    assert work.runs == 5


async def test_a_cancelled_leader_fails_nobody() -> None:
    """The first caller gives up; the others get the result of the same execution (K5)."""
    flights, work = SingleFlight[Any](), Work()
    leader, follower = start(flights, work), start(flights, work)
    await asyncio.sleep(0.5)
    leader.cancel()
    assert await follower == {"items": [1]}
    assert leader.cancelled()
    assert (work.runs, work.cancelled) == (1, 0)


async def test_a_cancelled_follower_fails_nobody() -> None:
    """One that joined gives up at once; the first caller gets its result (K5)."""
    flights, work = SingleFlight[Any](), Work()
    leader, follower = start(flights, work), start(flights, work)
    await asyncio.sleep(0.5)
    follower.cancel()
    await asyncio.wait([follower])
    assert not leader.done()
    assert await leader == {"items": [1]}


async def test_the_last_who_leaves_ends_the_work() -> None:
    """Nobody waits any more, so the work is cancelled, and has ended before that caller has."""
    flights, work = SingleFlight[Any](), Work()
    first, second = start(flights, work), start(flights, work)
    await asyncio.sleep(0.5)
    first.cancel()
    await asyncio.sleep(0.1)
    assert work.cancelled == 0
    second.cancel()
    await asyncio.wait([second])
    assert (work.cancelled, len(flights)) == (1, 0)


async def test_work_that_is_being_cancelled_takes_nobody_in() -> None:
    """A caller that comes while abandoned work still cleans up starts anew."""
    flights = SingleFlight[str]()

    async def slow_to_end() -> str:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(1)
        return "abandoned"

    async def prompt() -> str:
        return "new"

    leaver = asyncio.create_task(flights.run("k", slow_to_end))
    await asyncio.sleep(0.5)
    leaver.cancel()
    await asyncio.sleep(0.5)
    assert not leaver.done()
    assert await flights.run("k", prompt) == "new"
    await asyncio.wait([leaver])
    assert leaver.cancelled()


async def test_the_last_of_a_home_stays_until_the_work_has_ended() -> None:
    """What the work stands on does not go away under it, though all who still wait come from elsewhere."""
    flights, work = SingleFlight[Any](), Work()
    old, new = start(flights, work, home="old"), start(flights, work, home="new")
    await asyncio.sleep(0.5)
    old.cancel()
    await asyncio.sleep(0.1)
    assert not old.done()
    assert await new == {"items": [1]}
    await asyncio.wait([old])
    assert old.cancelled()


async def test_callers_cannot_change_each_others_result() -> None:
    """Each of several callers gets a value of its own, all the way down (K4)."""
    flights, work = SingleFlight[Any](), Work()
    one, other = await asyncio.gather(start(flights, work), start(flights, work))
    one["items"].append(2)
    assert other == {"items": [1]}


async def test_one_caller_alone_gets_the_result_itself() -> None:
    """Nothing is copied where nothing is shared."""
    made: dict[str, Any] = {}
    assert await SingleFlight[Any]().run("k", Work(lambda: made)) is made


async def test_each_caller_raises_an_error_of_its_own() -> None:
    """Equal in type, message and data, with the place where it was raised, and nobody else's frames."""
    flights = SingleFlight[Any]()
    work = Work(lambda: Refusal(ErrorCode.CIRCUIT_OPEN, "open", details={"provider": "notes"}, retry_after_ms=5))
    found = await asyncio.gather(*(start(flights, work) for _ in range(100)), return_exceptions=True)
    errors = [error for error in found if isinstance(error, Refusal)]
    assert len({id(error) for error in errors}) == 100
    assert {(error.code, error.message, error.data["provider"]) for error in errors} == {(-32011, "open", "notes")}
    assert {len(traceback.extract_tb(error.__traceback__)) for error in errors} == {2}


@pytest.mark.parametrize("outcome", [{"question": 1}, ToldError("ann")])
async def test_an_outcome_for_one_caller_is_for_who_started_it(outcome: Any) -> None:
    """Each other has its own execution then (H3)."""
    flights, work = SingleFlight[Any](), Work(lambda: ForOne(outcome))
    tasks = [start(flights, work) for _ in range(3)]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in found] == [str(outcome)] * 3
    assert work.runs == 3


async def test_an_outcome_for_a_caller_that_left_is_for_nobody() -> None:
    """Who stayed runs its own."""
    made = iter([ForOne("theirs"), "mine"])
    flights, work = SingleFlight[Any](), Work(lambda: next(made))
    leader, follower = start(flights, work), start(flights, work)
    await asyncio.sleep(0.5)
    leader.cancel()
    assert await follower == "mine"


async def test_the_work_sees_the_context_of_the_first_caller() -> None:
    """Its span, for instance, is the parent of what the work records."""
    variable: ContextVar[str] = ContextVar("variable")
    flights = SingleFlight[str]()

    async def read() -> str:
        await asyncio.sleep(1)
        return variable.get()

    async def caller(name: str) -> str:
        variable.set(name)
        return await flights.run("k", read)

    assert set(await asyncio.gather(caller("first"), caller("second"))) == {"first"}


async def test_closing_ends_what_is_under_way() -> None:
    """Also work that has not begun."""
    flights, work = SingleFlight[Any](), Work()
    running = start(flights, work, "a")
    await asyncio.sleep(0.5)
    begun = start(flights, work, "b")
    await asyncio.sleep(0)
    await flights.aclose()
    done, _ = await asyncio.wait([running, begun])
    assert all(task.cancelled() for task in done)
    assert len(flights) == 0


async def test_nothing_is_left_of_results_and_errors() -> None:
    """Without the help of the garbage collector, whether one caller raised it or several."""

    class BulkyError(Exception):
        pass

    seen: list[ref[Any]] = []

    def bulky() -> BulkyError:
        error = BulkyError()
        seen.append(ref(error))
        return error

    async def swallow(flights: SingleFlight[Any], work: Work) -> None:
        try:
            await flights.run("k", work)
        except BulkyError as error:
            seen.append(ref(error))

    flights, work = SingleFlight[Any](), Work(bulky)
    gc.disable()
    try:
        await swallow(flights, work)
        await asyncio.gather(*(swallow(flights, work) for _ in range(3)))
        await asyncio.sleep(0)
        assert [found() for found in seen] == [None] * 6
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "error",
    [
        ToldError("ann"),
        OSError(2, "no such file"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        ExceptionGroup("several", [ValueError("one")]),
        MCPError(-32602, "Unknown tool: x"),
        Refusal(ErrorCode.TIMEOUT, "late", retry_after_ms=3),
    ],
)
async def test_a_fresh_error_says_the_same(error: Exception) -> None:
    """Whatever its constructor takes, its type, text, fields and cause are those of the original."""
    error.__cause__ = KeyError("why")
    error.add_note("a note")
    clone = fresh(error)
    assert clone is not error
    assert type(clone) is type(error)
    assert (str(clone), clone.args, clone.__cause__) == (str(error), error.args, error.__cause__)
    assert {**vars(clone)} == {**vars(error)}


async def test_a_copy_keeps_what_is_not_json() -> None:
    """Values that only a server in process makes are copied too."""
    value = {"a": [1, 1.5, True, None, "x", b"y"], "b": (1, [2])}
    assert copied(value) == value
    assert copied(value)["b"][1] is not value["b"][1]


callers = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.none() | st.integers(0, 12)), min_size=1, max_size=8
)


def executions(schedule: list[tuple[str, float, float | None]], takes: float) -> Counter[str]:
    """How often the work of each key must run: at each arrival while none is under way that somebody waits for."""
    runs: Counter[str] = Counter()
    for key in "ab":
        mine = sorted((at, at + patience if patience is not None else None) for k, at, patience in schedule if k == key)
        ends, waits = -1.0, -1.0
        for at, leaves in mine:
            if at >= min(ends, waits):
                runs[key] += 1
                ends, waits = at + takes, -1.0
            waits = max(waits, ends if leaves is None else leaves)
    return runs


@settings(max_examples=50, deadline=None)
@given(callers, st.integers(1, 10), st.booleans())
def test_any_schedule_of_arrivals_and_departures(
    drawn: list[tuple[str, int, int | None]], takes: int, fails: object
) -> None:
    """Who stays gets the outcome, who goes is cancelled, and the work runs exactly as often as it must (K5)."""
    schedule = [
        (key, at + n / 100, None if stays is None else stays + n / 1000 + 0.0005)
        for n, (key, at, stays) in enumerate(drawn)
    ]
    runs: Counter[str] = Counter()
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()
    flights = SingleFlight[Any]()

    async def work(key: str) -> dict[str, str]:
        runs[key] += 1
        under_way[key] += 1
        most[key] = max(most[key], under_way[key])
        try:
            await asyncio.sleep(takes)
        finally:
            under_way[key] -= 1
        if fails:
            raise ToldError(key)
        return {"key": key}

    async def caller(key: str, at: float, patience: float | None) -> object:
        await asyncio.sleep(at)
        try:
            async with asyncio.timeout(patience):
                return await flights.run(key, lambda: work(key))
        except TimeoutError:
            return "left"
        except ToldError as error:
            return error.name

    async def main() -> None:
        found = await asyncio.gather(*(caller(*one) for one in schedule))
        for (key, _, patience), outcome in zip(schedule, found, strict=True):
            assert outcome in ([key, "left"] if fails else [{"key": key}, "left"])
            assert outcome != "left" or patience is not None
            if patience is not None and patience > takes:
                assert outcome != "left"
        assert len(flights) == 0
        assert not +under_way
        assert len(asyncio.all_tasks()) == 1

    run(main)
    assert max(most.values()) == 1
    assert runs == executions(schedule, takes)
