"""`RedisBackend` against a real server that is killed, frozen and started again."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from meters import collecting
from plughost import EventType, Host
from plughost_redis import BackendUnavailable, RedisBackend, StoreURL
from plughost_redis._metrics import meter
from plughost_testing import Backend, HostFactory, RecordingMiddleware, on_backends
from plughost_testing.services import Redis, Service, Stack
from plughost_testing.services.service import free_port
from redis.exceptions import ResponseError

pytestmark = [pytest.mark.anyio, pytest.mark.alone]

SLACK = 1.0
"""Real seconds that a busy machine may add to a time limit of 100 ms."""


@pytest.fixture
def watch() -> RecordingMiddleware:
    return RecordingMiddleware(name="watch")


@pytest.fixture
async def hosting(host: HostFactory, watch: RecordingMiddleware) -> Host:
    return await host(watch)


@asynccontextmanager
async def opened(url: str, host: Host) -> AsyncIterator[RedisBackend]:
    backend = RedisBackend(StoreURL(url), name="mine", host=host, prefix="plughost:test")
    await backend.start()
    try:
        yield backend
    finally:
        await backend.aclose()


@pytest.fixture
async def store(backend: Backend, hosting: Host) -> AsyncIterator[RedisBackend]:
    async with opened(backend.url, hosting) as store:
        yield store


def server(backend: Backend) -> Service:
    assert backend.service is not None
    return backend.service


async def timed(work: Awaitable[Any]) -> tuple[float, Any]:
    begin = time.monotonic()
    try:
        found = await work
    except BackendUnavailable as error:
        found = error
    return time.monotonic() - begin, found


async def eventually(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)


def echo(store: RedisBackend, number: int) -> Awaitable[Any]:
    return store.run(lambda redis: redis.echo(str(number)))


def ping(store: RedisBackend) -> Awaitable[Any]:
    return store.run(lambda redis: redis.ping())


# ---------------------------------------------------------------------------------------------------------------------
# A server that is there
# ---------------------------------------------------------------------------------------------------------------------


@on_backends("redis")
async def test_asks(backend: Backend, store: RedisBackend) -> None:
    """What the work gives is what it returns; a key starts with plugin and instance."""
    assert store.key("a") == "plughost:test:mine:a"
    assert await store.run(lambda redis: redis.set(store.key("a"), "1"))
    assert await store.run(lambda redis: redis.get(store.key("a"))) == b"1"
    await store.health_check().check()
    assert not store.health_check().critical


@on_backends("redis")
async def test_mistake_is_no_outage(backend: Backend, store: RedisBackend) -> None:
    """A command that the server refuses raises what the client raises, and the server stays up."""
    with pytest.raises(ResponseError):
        await store.run(lambda redis: redis.eval("return redis.call('NONSENSE')", 0))
    assert store.up


@on_backends("redis")
async def test_script_is_loaded_again(backend: Backend, store: RedisBackend) -> None:
    """A script runs by its hash, also after the server forgot it."""
    script = store.script("return {KEYS[1], ARGV[1]}")
    assert await script(["k"], [1]) == [b"k", b"1"]
    await store.run(lambda redis: redis.script_flush())
    assert await script(["k"], [2]) == [b"k", b"2"]


@on_backends("redis")
async def test_script_that_fails_runs_once(backend: Backend, store: RedisBackend) -> None:
    """A script that fails half-way is not repeated."""
    script = store.script("redis.call('INCR', KEYS[1]); return redis.call('NONSENSE')")
    for _ in range(2):
        with pytest.raises(ResponseError):
            await script(["n"])
    assert await store.run(lambda redis: redis.get("n")) == b"2"


@on_backends("redis")
async def test_more_at_once_than_connections(backend: Backend, store: RedisBackend) -> None:
    """Questions wait for a connection instead of failing."""
    answers = await asyncio.gather(*(echo(store, n) for n in range(200)))
    assert answers == [str(n).encode() for n in range(200)]


@on_backends("redis")
async def test_cancelled_asker_leaves_no_answer_behind(backend: Backend, store: RedisBackend) -> None:
    """Whoever gives up at any moment, everybody else gets the answer to what he asked."""
    order = random.Random(1)

    async def ask(number: int, patience: float | None) -> None:
        with anyio.move_on_after(patience):
            assert await echo(store, number) == str(number).encode()

    for round_ in range(20):
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                patience = order.choice([None, 0, order.random() * 0.004])
                tasks.start_soon(ask, round_ * 100 + number, patience)
    assert store.up
    await eventually(lambda: not store._asking)
    assert store._client is not None
    assert not store._client.connection_pool._in_use_connections


@on_backends("redis")
async def test_loop_that_stood_still_is_no_outage(backend: Backend, store: RedisBackend) -> None:
    """When this process was busy longer than the limit, an answer that came meanwhile still counts."""
    for _ in range(5):
        question = asyncio.ensure_future(ping(store))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.15)  # noqa: ASYNC251 - the point of the test
        assert await question
    assert store.up


@on_backends("redis")
async def test_busy_is_not_away(backend: Backend, store: RedisBackend) -> None:
    """A question may take longer than the limit as long as the server answers others; alone it may not."""
    waiting = asyncio.ensure_future(timed(store.run(lambda redis: redis.blpop(["nothing"], timeout=0.4))))
    while not waiting.done():
        assert await ping(store)
        await asyncio.sleep(0.02)
    seconds, answer = waiting.result()
    assert seconds > 3 * store.timeout
    assert answer is None
    assert store.up
    seconds, answer = await timed(store.run(lambda redis: redis.blpop(["nothing"], timeout=2)))
    assert isinstance(answer, BackendUnavailable)
    assert seconds < store.timeout + SLACK


# ---------------------------------------------------------------------------------------------------------------------
# A server that is away
# ---------------------------------------------------------------------------------------------------------------------


@on_backends("redis")
async def test_frozen_costs_one_time_limit(backend: Backend, store: RedisBackend, watch: RecordingMiddleware) -> None:
    """With the server frozen the calls under way end at the limit, all later ones at once, and it recovers alone."""
    server(backend).freeze()
    found = await asyncio.gather(*(timed(ping(store)) for _ in range(100)))
    assert all(isinstance(answer, BackendUnavailable) for _, answer in found)
    assert max(seconds for seconds, _ in found) < store.timeout + SLACK
    seconds, answer = await timed(ping(store))
    assert isinstance(answer, BackendUnavailable)
    assert seconds < store.timeout
    with pytest.raises(BackendUnavailable, match="did not answer"):
        await store.health_check().check()
    server(backend).thaw()
    await eventually(lambda: store.up)
    assert await ping(store)
    await store.health_check().check()
    await eventually(lambda: len(told(watch)) == 2)
    assert told(watch) == [EventType.BACKEND_DOWN, EventType.BACKEND_UP]


def told(watch: RecordingMiddleware) -> list[str]:
    """What the host was told of the store."""
    return [event.type for event in watch.events if event.subject == "mine"]


@on_backends("redis")
async def test_lost_before_a_question_begins(backend: Backend, store: RedisBackend) -> None:
    """Who asked at the moment of the loss is told of it as others are, and is not cancelled."""
    asking = asyncio.ensure_future(echo(store, 1))
    await asyncio.sleep(0)  # asked, and not begun
    assert store._client is not None
    store._doubt(store._client, TimeoutError("it did not answer another"))
    with pytest.raises(BackendUnavailable, match="it did not answer another"):
        await asking


@on_backends("redis")
async def test_killed_and_restarted(backend: Backend, store: RedisBackend) -> None:
    """A server that is gone is an error at once; started again it is used again, with nothing left of before."""
    await asyncio.gather(*(ping(store) for _ in range(10)))
    server(backend).kill()
    found = await asyncio.gather(*(timed(ping(store)) for _ in range(50)))
    assert max(seconds for seconds, _ in found) < store.timeout + SLACK
    assert any(isinstance(answer, BackendUnavailable) for _, answer in found)
    assert not store.up
    await asyncio.to_thread(server(backend).start)
    await eventually(lambda: store.up)
    assert await asyncio.gather(*(ping(store) for _ in range(50))) == [True] * 50


@on_backends("redis")
async def test_restart_between_two_questions(backend: Backend, store: RedisBackend) -> None:
    """A restart that nobody saw is no failure: a connection that was closed is opened again."""
    assert await ping(store)
    await asyncio.to_thread(server(backend).restart)
    assert await ping(store)


async def test_start_without_a_server(hosting: Host, watch: RecordingMiddleware) -> None:
    """A start while the server is away succeeds, degraded, and says so once."""
    async with opened(f"redis://127.0.0.1:{free_port()}", hosting) as store:
        assert not store.up
        with pytest.raises(BackendUnavailable, match="Connect call failed"):
            await ping(store)
        await eventually(lambda: bool(told(watch)))
        assert told(watch) == [EventType.BACKEND_DOWN]


@pytest.mark.services
async def test_server_that_comes_later(hosting: Host, stack: Stack) -> None:
    """Whoever starts before the server has it when it comes."""
    redis = Redis()
    async with opened(redis.url, hosting) as store:
        assert not store.up
        await asyncio.to_thread(stack.start, redis)
        await eventually(lambda: store.up)
        assert await ping(store)


@on_backends("redis")
async def test_closed_while_away(backend: Backend, hosting: Host) -> None:
    """Closing does not wait for a frozen server."""
    async with opened(backend.url, hosting) as store:
        server(backend).freeze()
        asking = [asyncio.ensure_future(timed(ping(store))) for _ in range(3)]
        await asyncio.sleep(0.01)
        begin = time.monotonic()
    assert time.monotonic() - begin < store.timeout + SLACK
    await asyncio.gather(*asking)
    with pytest.raises(BackendUnavailable, match="closed"):
        await ping(store)


@on_backends("redis")
async def test_wrong_password(backend: Backend, hosting: Host, caplog: pytest.LogCaptureFixture) -> None:
    """G6: a password that is refused is an outage with its reason, and shown to nobody."""
    url = backend.url.replace("redis://", "redis://nobody:hunter2@")
    async with opened(url, hosting) as store:
        with pytest.raises(BackendUnavailable, match="invalid username-password pair") as caught:
            await ping(store)
    assert "hunter2" not in f"{caught.value} {caplog.text} {store!r}"


class Silent:
    """A client whose server never answers."""

    asked = 0

    def __init__(self, url: StoreURL) -> None:
        pass

    async def ping(self) -> None:
        Silent.asked += 1
        raise OSError("nobody there")

    async def aclose(self) -> None:
        pass


async def test_probes_are_few(hosting: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, only one probe at a time is made, and ever more rarely, by the host's clock."""
    naps: list[float] = []

    class Clock:
        async def sleep(self, seconds: float) -> None:
            naps.append(seconds)
            await asyncio.sleep(0)

    monkeypatch.setattr("plughost_redis._client.connect", Silent)
    store = RedisBackend(StoreURL("redis://nowhere"), name="mine", host=hosting, prefix="p")
    monkeypatch.setattr(store, "_clock", Clock())
    await store.start()
    while len(naps) < 10:
        for _ in range(10):
            with pytest.raises(BackendUnavailable):
                await ping(store)
        await asyncio.sleep(0)
    await store.aclose()
    assert naps[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert Silent.asked <= len(naps) + 2


async def test_gauge_knows_who_is_there(hosting: Host) -> None:
    """The gauge shows each backend from its start to its end, and keeps none of them."""
    with collecting(meter) as collector:
        async with opened(f"redis://127.0.0.1:{free_port()}", hosting):
            assert collector.points() == {"plughost.redis.up": {"plugin=mine": 0}}
        assert collector.points() == {}


def test_memory_is_no_server(hosting: Host) -> None:
    """`memory://` is refused: there is nothing to ask."""
    with pytest.raises(ValueError, match="no server"):
        RedisBackend(StoreURL("memory://"), name="mine", host=hosting, prefix="p")


# ---------------------------------------------------------------------------------------------------------------------
# Subscriptions
# ---------------------------------------------------------------------------------------------------------------------


@on_backends("redis")
async def test_subscription_survives(backend: Backend, store: RedisBackend) -> None:
    """Messages arrive in their order; after a restart it listens again, and says that some may have been missed."""
    heard: list[bytes | str] = []
    store.subscribe("news", heard.append, lambda: heard.append("reset"))
    await eventually(lambda: heard == ["reset"])
    await store.run(lambda redis: redis.publish("news", b"one"))
    await store.run(lambda redis: redis.publish("news", b"two"))
    await eventually(lambda: heard == ["reset", b"one", b"two"])
    await asyncio.to_thread(server(backend).kill)
    await eventually(lambda: not store.up)
    await asyncio.to_thread(server(backend).start)
    await eventually(lambda: heard[3:] == ["reset"])
    await store.run(lambda redis: redis.publish("news", b"three"))
    await eventually(lambda: heard[3:] == ["reset", b"three"])


@on_backends("redis")
async def test_silent_server_is_noticed(backend: Backend, store: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is open and dead ends at the second heartbeat, and the gap is told."""
    monkeypatch.setattr("plughost_redis._subscription.HEARTBEAT", 0.1)
    heard: list[bytes | str] = []
    store.subscribe("news", heard.append, lambda: heard.append("reset"))
    await eventually(lambda: heard == ["reset"])
    await asyncio.sleep(0.5)
    assert heard == ["reset"]  # quiet, not dead: the heartbeats are answered
    server(backend).freeze()
    await eventually(lambda: not store.up)
    server(backend).thaw()
    await eventually(lambda: heard == ["reset", "reset"])


@on_backends("redis")
async def test_listener_that_fails(backend: Backend, store: RedisBackend, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is logged, and hears the next message."""
    heard: list[bytes] = []

    def listen(message: bytes) -> None:
        heard.append(message)
        raise RuntimeError("deaf")

    ready = asyncio.Event()
    store.subscribe("news", listen, ready.set)
    await ready.wait()
    await store.run(lambda redis: redis.publish("news", b"one"))
    await store.run(lambda redis: redis.publish("news", b"two"))
    await eventually(lambda: heard == [b"one", b"two"])
    assert "deaf" in caplog.text


# ---------------------------------------------------------------------------------------------------------------------
# Ways to it
# ---------------------------------------------------------------------------------------------------------------------


class EveryWay(Redis):
    """A server that also listens on a Unix socket and with TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.tls_port = free_port()
        self.socket = self.folder / "redis.sock"
        self.certificate = self.folder / "cert.pem"

    def prepare(self) -> None:
        _self_signed(self.certificate, self.folder / "key.pem")

    def command(self) -> Sequence[str]:
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.folder / "key.pem")]
        tls = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no", *files]
        return [*super().command(), "--unixsocket", str(self.socket), *tls]


def _self_signed(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture
def every_way(stack: Stack) -> EveryWay:
    return stack.start(EveryWay())


@pytest.mark.services
async def test_every_scheme(hosting: Host, every_way: EveryWay) -> None:
    """Plain, TLS and Unix socket, under the names of Redis and of Valkey, lead to the same server."""
    tls = f"localhost:{every_way.tls_port}/0?timeout=1&ssl_ca_certs={every_way.certificate}"
    urls = [
        every_way.url,
        every_way.url.replace("redis://", "valkey://"),
        f"unix://{every_way.socket}?db=0",
        f"rediss://{tls}",
        f"valkeys://{tls}",
    ]
    for url in urls:
        async with opened(url, hosting) as store:
            await store.run(lambda redis: redis.incr("visits"))
    assert every_way.ask("GET visits") == "$1"  # the length of "5"


@pytest.mark.services
async def test_tls_is_verified(hosting: Host, every_way: EveryWay) -> None:
    """A certificate that nobody vouches for is refused."""
    async with opened(f"rediss://localhost:{every_way.tls_port}", hosting) as store:
        with pytest.raises(BackendUnavailable, match=r"certificate|CERTIFICATE"):
            await ping(store)
    assert ssl.HAS_TLSv1_2
