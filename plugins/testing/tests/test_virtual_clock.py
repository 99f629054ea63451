"""Time that jumps, and an order that is drawn."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import anyio
import anyio.to_thread
import pytest
from plughost import Clock
from plughost_testing import DeadlockError, VirtualClock, run


@pytest.fixture
def real_seconds() -> Iterator[list[float]]:
    """Holds, after the test, what it took."""
    taken: list[float] = []
    begin = time.monotonic()
    yield taken
    assert time.monotonic() - begin < 10


@pytest.mark.anyio
@pytest.mark.usefixtures("real_seconds")
class TestTime:
    async def test_sleep_takes_no_time(self, virtual_clock: VirtualClock) -> None:
        """An hour's sleep moves the clock by an hour, and nothing else waits."""
        before = virtual_clock.monotonic()
        await anyio.sleep(3600)
        assert virtual_clock.monotonic() - before == pytest.approx(3600)

    async def test_long_sleep_takes_no_time(self, virtual_clock: VirtualClock) -> None:
        """asyncio waits a day at most at a time; a sleep of a month ends all the same."""
        before = virtual_clock.time()
        await asyncio.sleep(30 * 86400)
        assert virtual_clock.time() - before == pytest.approx(30 * 86400)

    async def test_timers_fire_in_their_order(self) -> None:
        """Of several sleepers the one with the shorter sleep wakes first, each at its time."""
        woken = []

        async def sleeper(seconds: float) -> None:
            await anyio.sleep(seconds)
            woken.append((seconds, anyio.current_time()))

        begin = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for seconds in (3, 1, 2.5):
                tasks.start_soon(sleeper, seconds)
        assert [name for name, _ in woken] == [1, 2.5, 3]
        assert [when - begin for _, when in woken] == pytest.approx([1, 2.5, 3])

    async def test_timeouts_obey(self) -> None:
        """anyio's and asyncio's timeouts fire at their virtual time."""
        with pytest.raises(TimeoutError), anyio.fail_after(600):
            await anyio.sleep(601)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await anyio.sleep(601)

    async def test_is_the_hosts_clock(self, virtual_clock: VirtualClock) -> None:
        """It is a `plughost.Clock`, on the same time as the loop."""
        assert isinstance(virtual_clock, Clock)
        await virtual_clock.sleep(5)
        assert virtual_clock.monotonic() == anyio.current_time()

    async def test_stands_still_for_a_worker_thread(self) -> None:
        """A timeout around a worker thread does not fire because the loop was idle meanwhile."""
        release = threading.Event()
        threading.Timer(0.05, release.set).start()
        with anyio.fail_after(0.001):
            assert await anyio.to_thread.run_sync(release.wait, 5)

    async def test_stands_still_for_an_executor(self) -> None:
        """Nor does one around the loop's own executor."""
        release = threading.Event()
        threading.Timer(0.05, release.set).start()
        async with asyncio.timeout(0.001):
            assert await asyncio.get_running_loop().run_in_executor(None, release.wait, 5)

    async def test_passes_really_while_a_socket_is_watched(self) -> None:
        """A timeout around real I/O fires only if the I/O really takes that long."""
        near, far = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=near)
        threading.Timer(0.05, far.send, [b"here"]).start()
        with anyio.fail_after(5):
            assert await reader.read(4) == b"here"
        writer.close()
        far.close()

    async def test_advance_skips_despite_a_watched_socket(self, virtual_clock: VirtualClock) -> None:
        """Where time passes really, `advance` moves it."""
        near, far = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=near)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 3600)
            await anyio.lowlevel.checkpoint()
            virtual_clock.advance(3600)
        writer.close()
        far.close()


def test_deadlock_is_an_error() -> None:
    """Where nothing can happen any more, the loop says who waits; it does not hang."""

    async def wait() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(anyio.Event().wait(), name="the-waiter")

    with pytest.raises(DeadlockError, match="the-waiter"):
        run(wait)


def test_wall_clock_is_the_same_in_every_run() -> None:
    """The wall clock starts at a fixed date, so that results with timestamps can be compared."""

    async def now() -> float:
        await anyio.sleep(86400)
        return clock.time()

    clock = VirtualClock()
    assert time.gmtime(run(now, clock=clock))[:3] == (2026, 1, 2)


async def racers() -> list[str]:
    """Who of several tasks came first; each has several steps."""
    order = []

    async def racer(name: str) -> None:
        for step in range(3):
            await asyncio.sleep(0)
            order.append(f"{name}{step}")

    async with asyncio.TaskGroup() as tasks:
        for name in "abcd":
            tasks.create_task(racer(name))
    return order


def test_seeds_differ() -> None:
    """Different seeds run tasks in different orders; without a seed they take turns."""
    plain = [f"{name}{step}" for step in range(3) for name in "abcd"]
    assert run(racers) == plain
    assert len({tuple(run(racers, clock=VirtualClock(seed))) for seed in range(20)}) > 10


def test_a_seed_repeats() -> None:
    """The same seed gives the same order."""
    assert run(racers, clock=VirtualClock(7)) == run(racers, clock=VirtualClock(7))


def test_a_task_keeps_its_own_order() -> None:
    """No seed changes the order of steps within one task, and none lets a task fall a round behind."""
    for seed in range(20):
        order = run(racers, clock=VirtualClock(seed))
        assert [step[1] for step in order] == ["0"] * 4 + ["1"] * 4 + ["2"] * 4


RACE = """
    import asyncio
    import pytest

    @pytest.fixture
    def anyio_backend(virtual_clock):
        return virtual_clock.backend

    @pytest.mark.anyio
    @pytest.mark.seeds(10)
    async def test_race():
        winners = []

        async def run(name):
            winners.append(name)

        await asyncio.gather(run("first"), run("second"))
        assert winners[0] == "first"
"""


def test_seeds_find_a_race_and_name_it(pytester: pytest.Pytester) -> None:
    """A test marked with `seeds` runs once per seed; the failing ones print theirs."""
    pytester.makepyfile(RACE)
    found = pytester.runpytest("-p", "no:cacheprovider")
    counts = found.parseoutcomes()
    assert counts["passed"] > 0
    assert counts["failed"] > 0
    assert counts["passed"] + counts["failed"] == 10
    found.stdout.fnmatch_lines(["*The order of tasks came from seed *; --plughost-seed=* repeats it.*"])


def test_seed_is_repeated_on_demand(pytester: pytest.Pytester) -> None:
    """`--plughost-seed` runs the one seed that failed, and it fails again."""
    pytester.makepyfile(RACE)
    first = pytester.runpytest("-p", "no:cacheprovider", "-q")
    failed = next(line for line in first.outlines if line.startswith("FAILED"))
    seed = failed.partition("seed=")[2].partition("]")[0]
    again = pytester.runpytest("-p", "no:cacheprovider", f"--plughost-seed={seed}")
    again.assert_outcomes(failed=1)


STUCK = """
    import anyio
    import pytest

    @pytest.fixture
    def anyio_backend(virtual_clock):
        return virtual_clock.backend

    @pytest.mark.anyio
    async def test_stuck():
        await anyio.Event().wait()

    @pytest.mark.anyio
    async def test_next():
        await anyio.sleep(1)
"""


def test_deadlock_fails_its_test_only(pytester: pytest.Pytester) -> None:
    """A test that waits for what can never happen fails at once, and the next one runs."""
    pytester.makepyfile(STUCK)
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *DeadlockError: nothing can happen any more; waiting are: Task-*"])


def test_seeds_without_a_virtual_clock_are_refused(pytester: pytest.Pytester) -> None:
    """Seeds on a test that runs on the ordinary loop would do nothing; that is said."""
    pytester.makepyfile("import pytest\n@pytest.mark.seeds(3)\ndef test_nothing(): pass\n")
    pytester.runpytest("-p", "no:cacheprovider").stdout.fnmatch_lines(["*let anyio_backend return virtual_clock*"])
