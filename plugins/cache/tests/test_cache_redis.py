"""The second level on Redis: in one host, and four of them as operators run them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from plughost import EventType, Host, MCPPlugin, SecretBox
from plughost_cache import CacheConfig, CachePlugin
from plughost_testing import RecordingMiddleware, ScriptedProvider, make_call, make_host, text
from plughost_testing.services import HostProcess, Redis, Stack
from redis.asyncio import Redis as RedisClient

pytestmark = [pytest.mark.anyio, pytest.mark.services, pytest.mark.alone]

SERVER = """
from pathlib import Path
from mcp.server.mcpserver import Context, MCPServer

mcp = MCPServer("notes")
SHARED = "nowhere"
counter = Path(__file__).with_name("counter")

@mcp.tool()
def count() -> str:
    "One more than the last time that it ran in this process."
    number = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(number))
    return f"{counter.parent.name} {number}"

@mcp.resource("note://shared")
def shared() -> str:
    return Path(SHARED).read_text()

@mcp.tool()
async def touch(ctx: Context) -> str:
    "Tell that the note changed."
    await ctx.notify_resource_updated("note://shared")
    return "done"
"""


@pytest.fixture(scope="module")
def redis(session_stack: Stack) -> Redis:
    """A server of this module's own, which its tests mistreat."""
    return session_stack.start(Redis())


@pytest.fixture(autouse=True)
def mended(redis: Redis) -> Iterator[None]:
    """Whatever a test did to it."""
    redis.clear()
    yield
    redis.thaw()
    if not redis.running:
        redis.restart()


def plugin(redis: Redis, *, patience: float = 5, **changes: Any) -> CachePlugin:
    """A cache that gives Redis time: with the default limit of 100 ms a busy machine is a reason to go without."""
    config = {"url": f"{redis.url}?timeout={patience}", "tools": {"*": "1m"}, **changes}
    return CachePlugin(CacheConfig.model_validate(config), name="cache")


def provider(prefix: str = "") -> ScriptedProvider:
    made = ScriptedProvider("notes", tools=["count"])
    made.script("count", *(text(f"{prefix}{number}") for number in range(1, 2000)))
    return made


async def count(host: Host, name: str = "count", **arguments: Any) -> str:
    result = await host.dispatch(make_call("tools/call", {"name": name, "arguments": arguments}))
    return str(result["content"][0]["text"])


async def eventually(condition: Callable[[], bool], limit: float = 5.0) -> None:
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.01)


async def listening(*plugins: CachePlugin) -> None:
    """Wait until they hear what others give up; what is under way at that moment is not kept."""
    await eventually(lambda: all(plugin.levels.invalidations for plugin in plugins))


class Boxed(MCPPlugin):
    """Brings a box that seals by reversing."""

    provides = (SecretBox,)

    async def register(self, host: Host) -> None:
        host.provide(SecretBox, self)  # type: ignore[type-abstract]  # shared under its protocol

    def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
        return context + plaintext[::-1]

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        assert sealed.startswith(context)
        return sealed[len(context) :][::-1]


async def test_replicas_share_answers_and_hear_of_what_is_given_up(redis: Redis) -> None:
    """What one fetched another need not; what one gives up the other has not either, at once."""
    one, two = plugin(redis), plugin(redis)
    async with make_host(one, providers=[provider("a")]) as first, make_host(two, providers=[provider("b")]) as second:
        await listening(one, two)
        assert await count(first) == await count(second) == await count(second) == "a1"
        assert (two.stats.hits_l2, two.stats.hits_l1) == (1, 1)
        heard = two.levels.invalidations
        assert (await first.run_operation("cache", "clear", {"tool": "count"}))["everywhere"]
        await eventually(lambda: two.levels.invalidations > heard, limit=1)
        assert await count(second) == await count(first) == "b1"


async def test_a_lost_message_is_made_up_for(redis: Redis) -> None:
    """A replica that did not hear trusts its memory for `l1_ttl` only."""
    one, two = plugin(redis), plugin(redis, l1_ttl="200ms")
    async with make_host(one, providers=[provider("a")]) as first, make_host(two, providers=[provider("b")]) as second:
        await listening(one, two)
        two.levels.heard = lambda message: None  # type: ignore[method-assign]  # as if it were lost
        assert await count(first) == await count(second) == "a1"
        await first.run_operation("cache", "clear")
        await asyncio.sleep(0.25)
        assert await count(second) == "b1"


async def test_other_providers_of_the_same_name_share_nothing(redis: Redis, tmp_path: Path) -> None:
    """A host whose provider is configured otherwise does not get the answers of this one."""
    for name in ("one", "two"):
        (tmp_path / f"{name}_notes.py").write_text(SERVER.replace("counter.parent.name", repr(name)))
    said = []
    for name in ("one", "two", "one"):
        config = {"providers": {"notes": {"python": f"{name}_notes:mcp"}}, "host": {"control": False}}
        sys.path.insert(0, str(tmp_path))
        try:
            async with make_host(plugin(redis), config=config) as host:
                said.append(await count(host))
        finally:
            sys.path.remove(str(tmp_path))
    assert said[0] == said[2] != said[1]


async def test_what_is_stored_is_sealed_where_a_box_is(redis: Redis) -> None:
    """With an encryption plugin nothing legible is in Redis, and what is not sealed is not believed."""
    notes, said, sealed = provider("secret"), [], {"up": True, "owed": 0, "failures": 0, "sealed": True}
    for boxes in ([], [Boxed(name="boxed")], [Boxed(name="boxed")]):
        cache = plugin(redis)
        async with make_host(*boxes, cache, providers=[notes]) as host:
            await listening(cache)
            said.append(await count(host))
            shown = (await host.run_operation("cache", "show"))["second_level"]
    assert said == ["secret1", "secret2", "secret2"]
    assert shown == {**sealed, "unreadable": 0}
    assert b"terces" in await _everything_in(redis)
    assert b"secret2" not in await _everything_in(redis)


async def _everything_in(redis: Redis) -> bytes:
    async with RedisClient.from_url(redis.url) as client:
        values: list[Any] = [await client.get(key) async for key in client.scan_iter()]
    return b"".join(values)


@pytest.mark.parametrize("harm", ["kill", "freeze", "restart", "full"])
async def test_calls_go_on_without_redis_and_with_it_again(harm: str, redis: Redis) -> None:
    """Killed, frozen, restarted or full under load: no call fails or waits long, health is degraded and recovers."""
    cache, events, slowest = plugin(redis, patience=0.1, l1_ttl="50ms"), RecordingMiddleware(name="watch"), 0.0
    async with make_host(cache, events, providers=[provider()]) as host:
        assert cache.shared is not None
        working = True

        async def work(who: int) -> int:
            nonlocal slowest
            done = 0
            while working:
                begin = time.perf_counter()
                await count(host, who=(who + done) % 40 if who else 40 + done)  # one of them always asks anew
                slowest = max(slowest, time.perf_counter() - begin)
                done += 1
                await asyncio.sleep(0.002)
            return done

        workers = [asyncio.create_task(work(number)) for number in range(8)]
        await asyncio.sleep(0.2)
        if harm == "full":
            redis.ask("CONFIG SET maxmemory 1")
        else:
            await asyncio.to_thread(getattr(redis, harm))
        if harm != "restart":
            await eventually(lambda: cache.shared is not None and cache.shared.failures > 0)
        if harm in ("kill", "freeze"):
            check = next(found for name, found in host.health_checks if name == "cache")
            with pytest.raises(Exception, match="unavailable"):
                await check.check()
            await eventually(lambda: EventType.BACKEND_DOWN in [event.type for event in events.events])
        if harm == "full":
            redis.ask("CONFIG SET maxmemory 0")
        elif harm == "kill":
            await asyncio.to_thread(redis.restart)
        else:
            redis.thaw()
        await eventually(lambda: cache.shared is not None and cache.shared.usable)
        before = cache.stats.hits_l2
        await eventually(lambda: cache.stats.hits_l2 > before)
        working = False
        assert min(await asyncio.gather(*workers)) > 10
        assert slowest < 1.5


async def test_what_was_given_up_while_redis_was_away_does_not_come_back(redis: Redis) -> None:
    """It is still in Redis when that is back: it is given up there first, and nothing is read before."""
    cache = plugin(redis, patience=0.3, l1_ttl="50ms")
    async with make_host(cache, providers=[provider()]) as host:
        shared = cache.shared
        assert shared is not None
        await listening(cache)
        assert await count(host) == "1"
        redis.kill()
        assert not (await host.run_operation("cache", "clear", {"tool": "count"}))["everywhere"]
        assert await count(host) == "2"
        redis.restart()
        await eventually(lambda: shared.store.up)
        while not shared.usable:
            assert await count(host) != "1"
            await asyncio.sleep(0.01)
        for _ in range(10):
            assert await count(host) != "1"
            await asyncio.sleep(0.02)


# -- four hosts -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def note(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a resource of all four hosts says."""
    path = tmp_path_factory.mktemp("shared") / "note"
    path.write_text("old")
    return path


@pytest.fixture(scope="module")
def fleet(session_stack: Stack, redis: Redis, note: Path) -> list[HostProcess]:
    """Four hosts with one Redis. Their memory is trusted for an hour, so that only messages can tell them."""
    cache = {"url": f"{redis.url}?timeout=5", "tools": {"count": "1h"}, "resources": {"note://*": "1h"}, "l1_ttl": "1h"}
    config = {"providers": {"notes": {"python": "notes_server:mcp"}}, "plugins": {"cache": cache}}
    files = {"notes_server.py": SERVER.replace('"nowhere"', repr(str(note)))}
    hosts = [HostProcess({**config, "host": {"control": True}}, files=files) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(session_stack.start, hosts))


async def within_a_second(clients: Sequence[Client], ask: Callable[[Client], Awaitable[object]], old: object) -> None:
    """All of them answer something else than before, and the same as each other."""
    begin = time.monotonic()
    answers = [await ask(client) for client in clients]
    while old in answers:
        assert time.monotonic() - begin < 1, f"still {answers} after a second"
        await asyncio.sleep(0.02)
        answers = [await ask(client) for client in clients]


async def test_all_of_four_hosts_forget_within_a_second(fleet: list[HostProcess]) -> None:
    """What an operator clears on one of them is answered anew by all."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(host.url, cache=None)) for host in fleet]

        async def ask(client: Client) -> object:
            return (await client.call_tool("count", {})).content[0].text  # type: ignore[union-attr]

        first = {await ask(client) for client in clients}
        assert len(first) == 1
        command = [sys.executable, "-m", "plughost", "ctl", "--config", str(fleet[2].config), "cache", "clear"]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
        await within_a_second(clients, ask, first.pop())


async def test_all_of_four_hosts_hear_of_an_update_within_a_second(fleet: list[HostProcess], note: Path) -> None:
    """A resource whose server tells one of them that it changed is read anew by all."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(host.url, cache=None)) for host in fleet]

        async def ask(client: Client) -> object:
            return (await client.read_resource("note://shared")).contents[0].text  # type: ignore[union-attr]

        assert [await ask(client) for client in clients] == ["old"] * 4
        await asyncio.to_thread(note.write_text, "new")
        assert [await ask(client) for client in clients] == ["old"] * 4
        async with clients[1].listen(resource_subscriptions=["note://shared"]):
            await clients[1].call_tool("touch", {})
            await within_a_second(clients, ask, "old")
