"""Webhooks of a running host, posted to a receiver that listens on a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from meters import collecting
from plughost import ConfigError, EventType, Host, HostEvent, PlughostError, create_host
from plughost_bus import BusConfig, BusPlugin, WebhookConfig
from plughost_bus._metrics import meter
from plughost_bus._post import Poster, retry_after
from plughost_testing import VirtualClock, make_host

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOWN = HostEvent(EventType.PROVIDER_DOWN, "search", {"reason": "lost"})


class Receiver:
    """An HTTP server that answers by script and keeps what was posted; the last answer stays."""

    def __init__(self) -> None:
        self.answers = ["204 No Content"]
        self.extra = ""
        self.silent = False
        self.posts: list[tuple[str, Mapping[str, str], str]] = []
        self._news = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await _until_blank_line(reader):
                first, *lines = head.decode().split("\r\n")
                headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines if line)}
                body = (await reader.readexactly(int(headers["content-length"]))).decode()
                self.posts.append((first, headers, body))
                self._news.set()
                if self.silent:
                    await asyncio.sleep(60)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(f"HTTP/1.1 {answer}\r\n{self.extra}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        finally:
            writer.close()

    async def received(self, count: int) -> None:
        with anyio.fail_after(10):
            while len(self.posts) < count:
                self._news.clear()
                await self._news.wait()


async def _until_blank_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    handlers: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.get_running_loop().create_task(found(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1")
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?token=t0p"  # type: ignore[attr-defined]
    yield found
    server.close()
    for task in handlers:
        task.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)


def hook(receiver: Receiver, **keys: Any) -> dict[str, Any]:
    url = receiver.url  # type: ignore[attr-defined]
    return {"url": url, "secrets": [SECRET], "allow_loopback": True, "backoff": "10ms", "attempts": 3, **keys}


@asynccontextmanager
async def hosting(folder: Path, **webhooks: Any) -> AsyncIterator[tuple[Host, BusPlugin]]:
    config = BusConfig.model_validate({"dead_letters": str(folder / "dead.jsonl"), "webhooks": webhooks})
    plugin = BusPlugin(config, name="bus")
    async with make_host(plugin) as host:
        yield host, plugin


async def written(plugin: BusPlugin, letters: int) -> None:
    """Wait until so many dead letters are in the file, or lost."""
    with anyio.fail_after(5):
        while True:
            shown = await plugin.show()
            if (shown["dead_letters"] or 0) + shown["lost_letters"] == letters:
                return
            await asyncio.sleep(0.01)


def verified(headers: Mapping[str, str], body: str) -> bool:
    """Whether a delivery is signed, checked as a receiver does by the specification."""
    signed = ".".join((headers["webhook-id"], headers["webhook-timestamp"], body)).encode()
    key = b64decode(SECRET.removeprefix("whsec_"))
    expected = "v1," + b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return expected in headers["webhook-signature"].split(" ")


async def test_posts_a_signed_cloud_event(tmp_path: Path, receiver: Receiver) -> None:
    """A host event arrives as a CloudEvent whose signature a receiver can check; others are not posted."""
    async with hosting(tmp_path, ops=hook(receiver)) as (host, _):
        host.publish(HostEvent(EventType.REFUSED, "rbac"))
        host.publish(DOWN)
        await receiver.received(1)
    [(first, headers, body)] = receiver.posts
    assert first == "POST /hook?token=t0p HTTP/1.1"
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert verified(headers, body)
    assert not verified(headers, body.replace("lost", "lust"))
    event = json.loads(body)
    assert event["id"] == headers["webhook-id"]
    assert event["source"].startswith("/plughost/plughost/")
    assert {key: event[key] for key in ("specversion", "type", "subject", "data")} == {
        "specversion": "1.0",
        "type": "plughost.provider.down",
        "subject": "search",
        "data": {"reason": "lost"},
    }


async def test_a_receiver_that_recovers_gets_it(tmp_path: Path, receiver: Receiver) -> None:
    """Failed attempts are repeated with the same id and a signature of their own; health is well all along."""
    receiver.answers = ["500 Oops", "404 Not Found", "200 OK"]
    async with hosting(tmp_path, ops=hook(receiver)) as (host, plugin):
        host.publish(DOWN)
        await receiver.received(3)
        await plugin.deliveries.webhooks["ops"].drained()
        [check] = [check for _, check in host.health_checks]
        await check.check()
        shown = (await host.run_operation("bus", "show"))["webhooks"]["ops"]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.posts}) == 1
    assert all(verified(headers, body) for _, headers, body in receiver.posts)
    assert (shown["delivered"], shown["failed_attempts"], shown["dead"]) == (1, 2, 0)


async def test_follows_no_redirect(tmp_path: Path, receiver: Receiver) -> None:
    """A redirect is a failure: events go to the configured URL and nowhere else (S1)."""
    receiver.answers, receiver.extra = ["307 Temporary Redirect"], "Location: /elsewhere\r\n"
    async with hosting(tmp_path, ops=hook(receiver, attempts=2)) as (host, _):
        host.publish(DOWN)
        await receiver.received(2)
    assert {first for first, _, _ in receiver.posts} == {"POST /hook?token=t0p HTTP/1.1"}


async def test_does_not_wait_for_ever(tmp_path: Path, receiver: Receiver) -> None:
    """A receiver that takes the event and says nothing has failed after `timeout`."""
    receiver.silent = True
    async with hosting(tmp_path, ops=hook(receiver, timeout="50ms", attempts=1)) as (host, plugin):
        host.publish(DOWN)
        await receiver.received(1)
        await plugin.deliveries.webhooks["ops"].drained()
        assert plugin.deliveries.webhooks["ops"].problem == "no answer within 0.05 s"


async def test_dead_letters_are_delivered_again(tmp_path: Path, receiver: Receiver) -> None:
    """What nobody took is kept in a file, degrades health, and goes out with the same id when an operator says so."""
    receiver.answers = ["500 Oops"] * 3 + ["200 OK"]
    async with hosting(tmp_path, ops=hook(receiver)) as (host, plugin):
        host.publish(DOWN)
        await receiver.received(3)
        webhook = plugin.deliveries.webhooks["ops"]
        await webhook.drained()
        [check] = [check for _, check in host.health_checks]
        with pytest.raises(RuntimeError, match="dead letter: status 500"):
            await check.check()
        await written(plugin, 1)
        assert await host.run_operation("bus", "redeliver") == {"redelivered": {"ops": 1}, "left": 0}
        await receiver.received(4)
        await webhook.drained()
        await check.check()
    assert len({headers["webhook-id"] for _, headers, _ in receiver.posts}) == 1
    assert len({body for _, _, body in receiver.posts}) == 1


async def test_what_is_queued_at_the_end_is_kept(tmp_path: Path, receiver: Receiver) -> None:
    """When the host stops, webhooks get a moment; what they did not deliver then waits in the file for the next run."""
    receiver.answers = ["503 Busy"]
    receiver.extra = "Retry-After: 60\r\n"
    config = BusConfig.model_validate(
        {"dead_letters": str(tmp_path / "dead.jsonl"), "flush_timeout": "50ms", "webhooks": {"ops": hook(receiver)}}
    )
    async with make_host(BusPlugin(config, name="bus")) as host:
        for _ in range(3):
            host.publish(DOWN)
        await receiver.received(1)
    receiver.answers, receiver.extra = ["204 No Content"], ""
    async with make_host(BusPlugin(config, name="bus")) as host:
        assert await host.run_operation("bus", "redeliver", {"webhook": "ops"}) == {
            "redelivered": {"ops": 3},
            "left": 0,
        }
        await receiver.received(4)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.posts}) == 3


async def test_a_disk_that_fails_is_counted(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Dead letters that cannot be written are counted and logged; the host goes on."""
    receiver.answers = ["410 Gone"]
    (tmp_path / "dead.jsonl").mkdir()
    async with hosting(tmp_path, ops=hook(receiver)) as (host, plugin):
        host.publish(DOWN)
        await written(plugin, 1)
    assert "1 dead letters are lost" in caplog.text


async def test_webhooks_change_in_place(tmp_path: Path, receiver: Receiver) -> None:
    """A webhook with a new policy goes on with its queue; one that is taken out leaves what it had."""
    receiver.answers = ["503 Busy"]
    receiver.extra = "Retry-After: 60\r\n"
    async with hosting(tmp_path, ops=hook(receiver)) as (host, plugin):
        replica = plugin.bus.replica
        host.publish(DOWN)
        await receiver.received(1)
        receiver.answers, receiver.extra = ["204 No Content"], ""
        same = {"dead_letters": str(tmp_path / "dead.jsonl")}
        wanted = {"ops": hook(receiver, attempts=5), "other": hook(receiver, events=["a.*"])}
        assert await plugin.reconfigure(BusConfig.model_validate({**same, "webhooks": wanted}))
        await receiver.received(2)
        assert receiver.posts[0][1]["webhook-id"] == receiver.posts[1][1]["webhook-id"]
        receiver.silent = True
        host.publish(DOWN)
        await receiver.received(3)
        assert await plugin.reconfigure(BusConfig.model_validate({**same, "relay": ["*"]}))
        assert (plugin.deliveries.webhooks, plugin.bus.replica) == ({}, replica)
        assert not await plugin.reconfigure(BusConfig.model_validate({}))
        await written(plugin, 1)


async def test_an_operator_tries_a_webhook(tmp_path: Path, receiver: Receiver) -> None:
    """`test` posts one event and says what came back; a name that is none is an error that lists them."""
    receiver.answers = ["200 OK", "401 Unauthorized"]
    async with hosting(tmp_path, ops=hook(receiver)) as (host, _):
        first = await host.run_operation("bus", "test", {"webhook": "ops"})
        second = await host.run_operation("bus", "test", {"webhook": "ops"})
        with pytest.raises(PlughostError, match=r"no webhook 'opps'.*There are: ops"):
            await host.run_operation("bus", "redeliver", {"webhook": "opps"})
    assert [(found["taken"], found["answer"]) for found in (first, second)] == [
        (True, "status 200"),
        (False, "status 401"),
    ]
    assert json.loads(receiver.posts[0][2])["type"] == "plughost.bus.test"


async def test_metrics_tell_what_was_told(tmp_path: Path, receiver: Receiver) -> None:
    """Changes by direction, replicas, and attempts at each webhook by outcome; nothing once the plugin is gone."""
    with collecting(meter) as collector:
        async with hosting(tmp_path, ops=hook(receiver)) as (host, _):
            host.publish(DOWN)
            await receiver.received(1)
            found = collector.points()
        assert found["plughost.bus.messages"] == dict.fromkeys(
            [f"plugin=bus bus.direction={direction}" for direction in ("sent", "received", "dropped")], 0
        )
        assert found["plughost.bus.resyncs"] == found["plughost.bus.replicas"] == {"plugin=bus": 0}
        assert found["plughost.bus.deliveries"].keys() == {
            f"plugin=bus bus.webhook=ops bus.outcome={outcome}" for outcome in ("delivered", "failed", "dead")
        }
        assert found["plughost.bus.queued"].keys() == {"plugin=bus bus.webhook=ops"}
        assert collector.points() == {}


async def test_nobody_there(tmp_path: Path) -> None:
    """A receiver that is away is a failure that names what happened, without the URL's token (G6)."""
    config = WebhookConfig.model_validate(
        {"url": "http://127.0.0.1:9/?token=t0p", "secrets": [SECRET], "allow_loopback": True}
    )
    poster = Poster(VirtualClock())
    answer = await poster.post(config, {}, "")
    await poster.aclose()
    assert "Connect" in answer.problem
    assert "t0p" not in str(answer)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_reads_retry_after(header: str | None, seconds: float | None) -> None:
    """A number of seconds or a date, as RFC 9110 has it; anything else is no wish."""
    assert retry_after(header, 784111777.0) == seconds


def test_secrets_are_redacted() -> None:
    """Neither keys nor URLs of webhooks, which may hold a token, are in a dump or an error (G6)."""
    config = BusConfig.model_validate({"webhooks": {"ops": {"url": "https://a.example/t0p", "secrets": [SECRET]}}})
    for shown in (repr(config), str(config), config.model_dump_json()):
        assert "t0p" not in shown
        assert SECRET[6:] not in shown


def test_plain_http_is_refused() -> None:
    """Events leave encrypted; loopback only where the operator says so, and nothing that looks like it (S1)."""

    def check(url: str, **keys: Any) -> None:
        table = {"url": url, "secrets": [SECRET], **keys}
        with pytest.raises(ConfigError) as caught:
            create_host({"plugins": {"bus": {"webhooks": {"ops": table}}}}).check()
        assert "plugins.bus.webhooks.ops" in str(caught.value)
        assert url not in str(caught.value)

    check("http://hooks.example/")
    check("http://127.0.0.1:8000/")
    check("http://localhost.example/", allow_loopback=True)
    check("http://127.0.0.1@hooks.example/", allow_loopback=True)
    check("//hooks.example/")
