"""Single flight across replicas, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from plughost import Clock, Host, SealError, SecretBox
from plughost._shared import SystemClock
from plughost_dedup import DedupConfig, DedupPlugin
from plughost_dedup._replicas import KeyReused, Replicas
from plughost_redis import BackendUnavailable, RedisBackend, StoreURL
from plughost_testing import HostFactory, Line, ScriptedProvider, make_call, text
from plughost_testing.services import Redis, Stack

pytestmark = [pytest.mark.anyio, pytest.mark.services]

LEASE = 0.6
KEY, ARGUMENTS = b"k" * 16, b"a" * 16


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Stack() as stack:
        yield stack.start(Redis())


@pytest.fixture
def redis(server: Redis) -> Redis:
    server.clear()
    return server


class Box:
    """Encrypts by turning the bytes around; enough to see what is written."""

    def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
        return context + plaintext[::-1]

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        if not sealed.startswith(context):
            raise ValueError("another context")
        return sealed[len(context) :][::-1]


class Work:
    """Says who ran, how often, after a while."""

    def __init__(self, name: str, takes: float = 0.15) -> None:
        self.name, self.takes, self.runs = name, takes, 0

    async def __call__(self) -> bytes:
        self.runs += 1
        await asyncio.sleep(self.takes)
        return self.name.encode()


class Wrong(SystemClock):
    """A clock on the wall that is so many seconds ahead."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def time(self) -> float:
        return time.time() + self._ahead


Make = Callable[..., Awaitable[Replicas]]


@pytest.fixture
async def replica(redis: Redis, host: HostFactory) -> AsyncIterator[Make]:
    hosting = await host()
    made: list[Replicas] = []

    async def make(box: Box | None = None, lease: float = LEASE, clock: Clock | None = None) -> Replicas:
        backend = RedisBackend(StoreURL(redis.url), name="dedup", host=hosting, prefix="plughost:dedup")
        replicas = Replicas(backend, lease=lease, clock=clock or hosting.clock, seal=lambda: box, on_clear=lambda: None)
        await replicas.start()
        made.append(replicas)
        return replicas

    yield make
    for replicas in made:
        await replicas.aclose()


def start(
    replicas: Replicas, work: Work, arguments: bytes = ARGUMENTS, keep: float = 0, changed: float | None = None
) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(replicas.run(KEY, arguments, work, keep=lambda: keep, changed=changed))


async def test_replicas_share_one_execution(replica: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the lock runs; the others are told when it has ended."""
    monkeypatch.setattr("plughost_dedup._replicas.POLL", 60.0)
    works = [Work(str(n)) for n in range(4)]
    replicas = [await replica() for _ in works]
    async with asyncio.timeout(10):
        found = await asyncio.gather(*map(start, replicas, works))
    assert len(set(found)) == 1
    assert sum(work.runs for work in works) == 1


async def test_nothing_is_handed_out_after_the_execution(replica: Make) -> None:
    """A call that comes when it has ended runs anew, though the outcome is still there for those who waited."""
    one, other = await replica(), await replica()
    work = Work("x", takes=0)
    await start(one, work)
    await start(other, work)
    assert work.runs == 2


async def test_an_outcome_is_kept_as_long_as_wanted(replica: Make) -> None:
    """Then later calls of any replica get it."""
    one, other = await replica(), await replica()
    work = Work("x", takes=0)
    await start(one, work, keep=0.3)
    await start(other, work)
    assert work.runs == 1
    await asyncio.sleep(0.35)
    await start(other, work)
    assert work.runs == 2


async def test_a_key_stands_for_its_arguments(replica: Make) -> None:
    """Under way in another replica or kept, other arguments are refused."""
    one, other = await replica(), await replica()
    first = start(one, Work("x"), keep=5)
    await asyncio.sleep(0.05)
    for _ in range(2):
        with pytest.raises(KeyReused):
            await start(other, Work("y"), arguments=b"b" * 16)
        await first


async def test_a_cancelled_holder_hands_over_at_once(replica: Make) -> None:
    """Nobody waits for its lease to end."""
    one, other = await replica(lease=30), await replica(lease=30)
    first = start(one, Work("one", takes=30))
    await asyncio.sleep(0.1)
    second = start(other, Work("other", takes=0))
    await asyncio.sleep(0.1)
    first.cancel()
    async with asyncio.timeout(2):
        assert await second == b"other"


@pytest.mark.parametrize("rounds", range(3))
async def test_who_is_cancelled_while_it_asks_holds_no_lock(replica: Make, rounds: int) -> None:
    """Also if the server said yes just then."""
    one, other = await replica(lease=30), await replica(lease=30)
    asking = start(one, Work("one", takes=30))
    for _ in range(rounds + 1):
        await asyncio.sleep(0)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(2):
        assert await start(other, Work("other", takes=0)) == b"other"


async def test_a_living_holder_keeps_its_lock_beyond_the_lease(replica: Make) -> None:
    """It is renewed while the work runs."""
    one, other = await replica(), await replica()
    first = start(one, Work("one", takes=LEASE * 2.5))
    await asyncio.sleep(LEASE * 1.5)
    work = Work("other")
    assert await start(other, work) == await first == b"one"
    assert work.runs == 0


async def test_a_dead_holder_is_replaced_and_cannot_publish(replica: Make) -> None:
    """When its lease has ended a waiting replica runs; what the old holder brings late is not handed out."""
    one, other, third = await replica(), await replica(), await replica()
    one._renew = one.backend.script("return 1")  # it stops renewing, and does not notice
    late = start(one, Work("late", takes=LEASE + 0.9))
    await asyncio.sleep(0.1)
    works = [Work("new", takes=1.2), Work("new", takes=1.2)]
    tasks = [start(other, works[0], keep=5), start(third, works[1], keep=5)]
    assert await late == b"late"
    assert one.stale == 1
    assert not any(task.done() for task in tasks)
    assert [await task for task in tasks] == [b"new", b"new"]
    assert sum(work.runs for work in works) == 1


async def test_outcomes_are_encrypted_where_there_is_a_box(replica: Make, redis: Redis) -> None:
    """Those on the server cannot be read there; one from under another key is as good as none."""
    one, other, open_one = await replica(Box()), await replica(Box()), await replica()
    await start(one, Work("secret", takes=0), keep=5)
    kept: Any = await one.backend.run(lambda client: client.get(one._names(KEY)[1]))
    assert b"secret" not in kept
    assert await start(other, Work("again")) == b"secret"
    assert await start(open_one, Work("again")) == KEY + b"terces"


async def test_what_was_not_sealed_is_not_believed(replica: Make) -> None:
    """Somebody who can write to the server cannot plant an outcome where there is a box."""
    sealing, planting = await replica(Box()), await replica()
    await start(planting, Work("planted", takes=0), keep=5)
    assert await start(sealing, Work("again")) == b""


async def test_what_cannot_be_sealed_is_not_shared(replica: Make) -> None:
    """The call that it came from succeeds; the next one runs its own."""

    class Locked(Box):
        def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
            raise SealError("no key")

    one, other = await replica(Locked()), await replica(Locked())
    assert await start(one, Work("one", takes=0), keep=5) == b"one"
    assert await start(other, Work("other", takes=0), keep=5) == b"other"


async def test_what_was_kept_before_a_change_is_not_handed_out(replica: Make) -> None:
    """Another replica kept it, and has perhaps not heard of the change yet; what comes after takes its place."""
    one, other = await replica(), await replica()
    await start(one, Work("old", takes=0), keep=60)
    await asyncio.sleep(0.01)
    change = time.monotonic()
    await asyncio.sleep(0.05)
    assert await start(other, Work("new", takes=0), keep=60, changed=change) == b"new"
    assert await start(one, Work("newer", takes=0), changed=change) == b"new"


async def test_clocks_of_replicas_need_not_agree(replica: Make) -> None:
    """What one of them kept that is an hour ahead is not from after a change, nor what one behind keeps from before."""
    ahead, behind = await replica(clock=Wrong(3600)), await replica(clock=Wrong(-3600))
    await start(ahead, Work("old", takes=0), keep=60)
    await asyncio.sleep(0.01)
    change = time.monotonic()
    await asyncio.sleep(0.05)
    assert await start(behind, Work("new", takes=0), keep=60, changed=change) == b"new"
    assert await start(ahead, Work("newer", takes=0), changed=change) == b"new"


async def test_what_began_before_a_change_is_not_waited_for(replica: Make) -> None:
    """Who comes after the change runs its own, beside the one that holds the lock."""
    one, other = await replica(), await replica()
    old = start(one, Work("old", takes=0.5))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(0.3):
        assert await start(other, Work("new", takes=0), changed=time.monotonic()) == b"new"
    assert await old == b"old"


async def test_clearing_is_for_all_replicas(replica: Make) -> None:
    """What is kept on the server goes, and each is told to forget its own."""
    one, other = await replica(), await replica()
    told = asyncio.Event()
    other._on_clear = told.set
    await start(one, Work("x", takes=0), keep=60)
    assert await one.clear() == 1
    async with asyncio.timeout(2):
        await told.wait()


# -- the plugin -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def hosts(host: HostFactory, redis: Redis, provider: Any, **config: Any) -> AsyncIterator[list[Host]]:
    settings = DedupConfig(url=StoreURL(redis.url), tools=("add",), **config)
    made = [await host(DedupPlugin(settings, name="dedup"), providers=[provider()]) for _ in range(3)]
    await asyncio.sleep(0.05)  # each start is a change of what clients see
    yield made


def add(line: Line | None = None) -> Any:
    version = "2026-07-28" if line is None else "2025-11-25"
    return make_call("tools/call", {"name": "add", "arguments": {}}, line=line, protocol_version=version)


@pytest.mark.parametrize(
    ("answer", "runs"),
    [(text("done"), 1), ({"content": [], "isError": True}, 1), ({"resultType": "input_required"}, 9)],
)
async def test_hosts_share_results_but_no_questions(host: HostFactory, redis: Redis, answer: Any, runs: int) -> None:
    """One execution for three hosts with three callers each; of what asks back each caller has its own (H3)."""
    calls = 0

    async def slow(call: Any, params: Any) -> Any:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.2)
        return answer

    def provider() -> ScriptedProvider:
        made = ScriptedProvider("notes", tools=["add"])
        made.script("add", slow)
        return made

    async with hosts(host, redis, provider) as running:
        found = await asyncio.gather(*(one.dispatch(add()) for one in running for _ in range(3)))
    assert len(found) == 9
    assert calls == runs


async def test_health_tells_that_the_server_is_away(host: HostFactory) -> None:
    """The host starts, serves, and is degraded; with memory there is nothing to check."""
    plugin = DedupPlugin(DedupConfig(url=StoreURL("redis://127.0.0.1:1"), tools=("add",)), name="dedup")
    provider = ScriptedProvider("notes", tools=["add"])
    running = await host(plugin, DedupPlugin(name="memory"), providers=[provider])
    (check,) = (check for _, check in running.health_checks)
    with pytest.raises(BackendUnavailable):
        await check.check()
    assert not check.critical
    await running.dispatch(add())
    assert len(provider.calls) == 1


def test_a_box_is_what_the_host_shares() -> None:
    """The double has the shape of the real thing."""
    assert isinstance(Box(), SecretBox)
