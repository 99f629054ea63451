"""The counts in memory and on a real server: the same answers, all or none, and nothing kept of who is gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck as Health
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost import Host
from plughost_rate_limit._algorithms import Algorithm, algorithm
from plughost_rate_limit._lua import SCRIPTS
from plughost_rate_limit._memory import SHARDS, MemoryStore, Verdict
from plughost_rate_limit._rate import Rate
from plughost_rate_limit._shared import SharedStore
from plughost_redis import RedisBackend, StoreURL
from plughost_testing import Backend, HostFactory, VirtualClock, make_host, on_backends
from plughost_testing.services import Redis, Stack

pytestmark = [pytest.mark.anyio, pytest.mark.alone]

KINDS = ["sliding-window", "gcra", "fixed-window"]
CLOCK = "test-clock"


def limits(kind: str, *texts: str, burst: int | None = None) -> list[Algorithm]:
    return [algorithm(kind, Rate.parse(text), burst) for text in texts]


@asynccontextmanager
async def shared(
    url: str, host: Host, algorithms: Sequence[Algorithm], name: str = "mine"
) -> AsyncIterator[SharedStore]:
    backend = RedisBackend(StoreURL(f"{url}?timeout=5"), name=name, host=host, prefix="plughost:rate-limit")
    await backend.start()
    try:
        yield SharedStore(algorithms, backend)
    finally:
        await backend.aclose()


# ---------------------------------------------------------------------------------------------------------------------
# In memory
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_all_or_none(kind: str) -> None:
    """G4: a call that one limit refuses takes nothing from the others."""
    clock = VirtualClock()
    store = MemoryStore(limits(kind, "2/second", "5/minute"), clock)
    passed = 0
    for _ in range(10):
        for _ in range(10):
            passed += not (await store.take(1, 1)).wait
        clock.advance(2)
    assert passed >= 5  # had refused calls been charged to the minute, there would be fewer
    assert passed <= (5 if kind != "gcra" else 6)


async def test_who_refuses_speaks() -> None:
    """The verdict names the limit that has to be waited for, and else the one with the least left."""
    store = MemoryStore(limits("fixed-window", "2/second", "3/minute"), VirtualClock())
    assert await store.take(1, 1) == Verdict("2/second", 1, 0)
    assert await store.take(1, 1) == Verdict("2/second", 0, 0)
    assert await store.take(1, 1) == Verdict("2/second", 0, 1_000_000)
    assert await store.take(2, 3) == Verdict("2/second", 2, 1_000_000)


async def test_identities_are_apart() -> None:
    """What one has used up, another has."""
    store = MemoryStore(limits("sliding-window", "1/minute"), VirtualClock())
    for identity in range(5 * SHARDS):
        assert not (await store.take(identity, 1)).wait
        assert (await store.take(identity, 1)).wait


@pytest.mark.parametrize("kind", KINDS)
async def test_idle_identities_go(kind: str) -> None:
    """Who has not called for a while is forgotten while others call, a thousandth at a time; who calls is kept."""
    clock = VirtualClock()
    store = MemoryStore(limits(kind, "10/second"), clock)
    for identity in range(20_000):
        await store.take(identity, 1)
    assert store.identities == 20_000
    (table,) = store._tables.values()
    for _ in range(3):
        clock.advance(1.2)
        before = store.identities
        await store.take(77, 1)
        assert before - store.identities < 100, "one call sweeps a thousandth"
        for _ in range(SHARDS):
            await store.take(77, 1)
    assert store.identities == 1
    assert table.shards[77 % SHARDS].keys() == {77}


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_of_an_identity(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """B11: an identity takes at most 200 bytes, and no more however often and for however long it calls."""
    monkeypatch.setattr("plughost_rate_limit._memory.SHARDS", 8)
    clock = VirtualClock()
    store = MemoryStore(limits(kind, "100/minute"), clock)
    (table,) = store._tables.values()
    for _ in range(6):
        for number in range(5_500):  # just after the dicts have grown, when they are emptiest
            await store.take(number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 120), 1)
        states = sum(allocated(key) + allocated(state) for shard in table.shards for key, state in shard.items())
        assert (states + sum(map(sys.getsizeof, table.shards))) / store.identities <= 200
        clock.advance(13)


def allocated(value: int) -> int:
    """Bytes that the allocator gives for it."""
    return -(-sys.getsizeof(value) // 16) * 16


async def test_counts_survive_a_change() -> None:
    """Where algorithm and period stay, so do the counts; elsewhere they start anew."""
    store = MemoryStore(limits("sliding-window", "5/minute", "9/hour"), VirtualClock())
    for _ in range(4):
        await store.take(1, 1)
    store.change(limits("sliding-window", "6/minute"))
    assert await store.take(1, 0) == Verdict("6/minute", 2, 0)
    store.change(limits("gcra", "6/minute"))
    assert await store.take(1, 0) == Verdict("6/minute", 6, 0)


async def test_reset() -> None:
    """One identity has its quota back, or everybody."""
    store = MemoryStore(limits("gcra", "1/minute", "9/hour"), VirtualClock())
    for identity in (1, 2, 3):
        await store.take(identity, 1)
    await store.reset(1)
    assert [bool((await store.take(identity, 0)).remaining) for identity in (1, 2, 3)] == [True, False, False]
    await store.reset()
    assert store.identities == 0


# ---------------------------------------------------------------------------------------------------------------------
# On a server
# ---------------------------------------------------------------------------------------------------------------------

walks = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1_000_000, 3_750_000, 7_000_001, 61_000_000]), st.integers(0, 3), st.integers(1, 2)
    ),
    max_size=25,
)


@pytest.mark.services
@pytest.mark.parametrize("kind", KINDS)
def test_server_counts_as_memory_does(kind: str, session_stack: Stack, backend_redis: Redis) -> None:
    """At the same times both stores say the same of each call, so that what is shown of one holds for the other."""
    algorithms = limits(kind, "3/20s", "7/minute", burst=4 if kind == "gcra" else None)

    @given(walks)
    @settings(max_examples=25, deadline=None, suppress_health_check=[Health.too_slow])
    def same(walk: list[tuple[int, int, int]]) -> None:
        asyncio.run(compare(walk))

    async def compare(walk: list[tuple[int, int, int]]) -> None:
        clock = VirtualClock()
        clock.advance(1_700_000_000 - clock.monotonic())
        async with make_host() as host, shared(backend_redis.url, host, algorithms) as server:
            await server._backend.run(lambda redis: redis.flushdb())
            server._script = server._backend.script(SCRIPTS[kind].replace("'TIME'", f"'LRANGE', '{CLOCK}', 0, 1"))
            memory = MemoryStore(algorithms, clock)
            for pause, cost, identity in walk:
                clock.advance(pause / 1e6)
                now = int(clock.monotonic() * 1e6)
                await server._backend.run(
                    lambda redis, now=now: redis.eval(  # type: ignore[misc]  # mypy infers no lambda with defaults
                        f"redis.call('DEL', '{CLOCK}'); redis.call('RPUSH', '{CLOCK}', ARGV[1], ARGV[2])",
                        0,
                        now // 1_000_000,
                        now % 1_000_000,
                    )
                )
                assert await server.take(identity, cost) == await memory.take(identity, cost)

    same()


@on_backends("redis")
@pytest.mark.parametrize("kind", KINDS)
async def test_concurrent_calls_never_exceed(kind: str, backend: Backend, host: HostFactory) -> None:
    """Of many calls at once, through two replicas, exactly the limit passes, and G4 holds."""
    algorithms = limits(kind, "50/hour", "80/day")
    running = await host()
    async with (
        shared(backend.url, running, algorithms) as one,
        shared(backend.url, running, algorithms) as two,
    ):
        verdicts = await asyncio.gather(*(store.take(7, 1) for _ in range(100) for store in (one, two)))
        assert sum(not verdict.wait for verdict in verdicts) == 50
        assert {verdict.limit for verdict in verdicts if verdict.wait} == {"50/hour"}
        one.change(algorithms[1:])
        assert (await one.take(7, 0)).remaining == 30


@on_backends("redis")
@pytest.mark.parametrize("kind", KINDS)
async def test_wait_is_exact_on_the_server(kind: str, backend: Backend, host: HostFactory) -> None:
    """After the time that a refusal names the same call passes."""
    async with shared(backend.url, await host(), limits(kind, "3/200ms")) as store:
        while not (refused := await store.take(1, 1)).wait:
            pass
        await asyncio.sleep(refused.wait / 1e6)
        assert not (await store.take(1, 1)).wait


@on_backends("redis")
@pytest.mark.parametrize("kind", KINDS)
async def test_server_forgets(kind: str, backend: Backend, host: HostFactory) -> None:
    """Each key expires by itself, soon after it says nothing any more."""
    async with shared(backend.url, await host(), limits(kind, "5/second")) as store:
        await store.take(1, 5)
        (key,) = await store._backend.run(lambda redis: redis.keys("*"))
        assert b":mine:" + kind.encode() + b":1000000:" in key
        lasts = await store._backend.run(lambda redis: redis.pttl(key))
        assert 900 <= lasts <= 1200


@on_backends("redis")
async def test_reset_on_the_server(backend: Backend, host: HostFactory) -> None:
    """A reset takes the keys of this instance only, of one identity or all, however many there are."""
    running = await host()
    async with (
        shared(backend.url, running, limits("gcra", "1/hour")) as store,
        shared(backend.url, running, limits("gcra", "1/hour"), name="other") as other,
    ):
        much_later = 2 * 10**15
        quota = {key: much_later for identity in range(1500) for key in store._keys(identity)}
        await store._backend.run(lambda redis: redis.mset(quota))
        await other.take(1, 1)
        await store.reset(1)
        assert [(await store.take(identity, 0)).remaining for identity in (1, 2)] == [1, 0]
        await store.reset()
        assert [(await store.take(identity, 0)).remaining for identity in (2, 3, 1499)] == [1, 1, 1]
        assert (await other.take(1, 0)).remaining == 0
