"""A webhook alone: order, retries, and what becomes of what nobody takes. Time is virtual."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost_bus import WebhookConfig
from plughost_bus._dead_letters import Letter
from plughost_bus._signature import key_of, signed_headers
from plughost_bus._webhook import Answer, Delivery, Webhook
from plughost_testing import VirtualClock

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TAKEN = Answer(204)


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> Any:
    return virtual_clock.backend


class Receiver:
    """Answers by script; the last answer stays. `posts` holds time, id and body of each."""

    def __init__(self, clock: VirtualClock, *answers: Answer) -> None:
        self.answers = list(answers) or [TAKEN]
        self.posts: list[tuple[float, str, str]] = []
        self.letters: list[Letter] = []
        self.takes = 0.0
        self._clock = clock
        self._began = clock.monotonic()

    async def post(self, headers: Mapping[str, str], body: str) -> Answer:
        self.posts.append((round(self._clock.monotonic() - self._began, 3), headers["webhook-id"], body))
        await asyncio.sleep(self.takes)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def times(self) -> list[float]:
        return [time for time, _, _ in self.posts]

    @property
    def ids(self) -> list[str]:
        return [found for _, found, _ in self.posts]


@asynccontextmanager
async def running(receiver: Receiver, *, jitter: float = 0.0, **policy: Any) -> AsyncIterator[Webhook]:
    config = WebhookConfig.model_validate({"url": "https://hooks.example", "secrets": [SECRET], **policy})
    webhook = Webhook(
        "ops",
        config,
        [key_of(SECRET)],
        post=receiver.post,
        bury=receiver.letters.append,
        clock=receiver._clock,
        random=lambda: jitter,
    )
    task = asyncio.create_task(webhook.run())
    yield webhook
    task.cancel()
    await asyncio.wait([task])


def test_signature_of_the_reference() -> None:
    """The signature is that of the Standard Webhooks reference libraries, for the message of their documentation."""
    headers = signed_headers([key_of(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.9, '{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_keys_sign_while_one_is_replaced() -> None:
    """A delivery has one signature for each key, so that a receiver with either one takes it."""
    new, old = b"n" * 32, b"o" * 32
    both = signed_headers([new, old], "msg_1", 1, "{}")["webhook-signature"].split(" ")
    assert both == [signed_headers([key], "msg_1", 1, "{}")["webhook-signature"] for key in (new, old)]
    assert len(b64decode(both[0].removeprefix("v1,"))) == 32


async def test_delivers_in_order(virtual_clock: VirtualClock) -> None:
    """One at a time, in the order they came."""
    receiver = Receiver(virtual_clock)
    receiver.takes = 1
    async with running(receiver) as webhook:
        for number in range(3):
            webhook.add(Delivery(f"m{number}", str(number)))
        await webhook.drained()
    assert receiver.posts == [(0, "m0", "0"), (1, "m1", "1"), (2, "m2", "2")]
    assert (webhook.delivered, webhook.queued, webhook.problem) == (3, 0, "")


async def test_tries_again_with_backoff(virtual_clock: VirtualClock) -> None:
    """Waits double up to the longest; what follows waits behind; the id stays the same."""
    receiver = Receiver(virtual_clock, *[Answer(500)] * 5, TAKEN)
    async with running(receiver, backoff="1s", max_backoff="5s") as webhook:
        webhook.add(Delivery("a", ""))
        webhook.add(Delivery("b", ""))
        await webhook.drained()
    assert receiver.times == [0, 1, 3, 7, 12, 17, 17]
    assert receiver.ids == ["a"] * 6 + ["b"]
    assert (webhook.delivered, webhook.failed, receiver.letters) == (2, 5, [])


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e9))
def test_waits_are_within_bounds(attempt: int, jitter: float, asked: float | None) -> None:
    """No wait is shorter than half the backoff or than the receiver asked, and none longer than both allow."""
    config = WebhookConfig.model_validate({"url": "https://a.example", "secrets": [SECRET]})
    clock = VirtualClock()
    receiver = Receiver(clock)
    webhook = Webhook(
        "ops", config, [], post=receiver.post, bury=receiver.letters.append, clock=clock, random=lambda: jitter
    )
    full = min(2.0 ** (attempt - 1), 60.0)
    wanted = min(asked or 0.0, 3600.0)
    assert max(full / 2, wanted) <= webhook.wait_after(attempt, asked) <= max(full, wanted)


async def test_honours_retry_after(virtual_clock: VirtualClock) -> None:
    """A receiver that asks for time gets it, up to an hour."""
    receiver = Receiver(virtual_clock, Answer(429, 30.0), Answer(503, 1e9), TAKEN)
    async with running(receiver, jitter=0.99) as webhook:
        webhook.add(Delivery("a", ""))
        await webhook.drained()
    assert receiver.times == [0, 30, 3630]


async def test_gives_up(virtual_clock: VirtualClock) -> None:
    """After the last attempt it is a dead letter with the reason, and the next event has all its attempts."""
    receiver = Receiver(virtual_clock, Answer(500), Answer(problem="no answer within 10 s"), Answer(500), TAKEN)
    async with running(receiver, attempts=2) as webhook:
        webhook.add(Delivery("a", "body"))
        webhook.add(Delivery("b", ""))
        await asyncio.sleep(1.5)
        assert webhook.problem == "no answer within 10 s"
        await webhook.drained()
    assert receiver.ids == ["a", "a", "b", "b"]
    [letter] = receiver.letters
    assert (letter.id, letter.body, letter.reason, letter.attempts) == ("a", "body", "no answer within 10 s", 2)
    assert (webhook.dead, webhook.problem) == (1, "")


async def test_queue_is_bounded(virtual_clock: VirtualClock) -> None:
    """What finds the queue full is a dead letter at once; nothing is lost in silence."""
    receiver = Receiver(virtual_clock)
    receiver.takes = 1
    async with running(receiver, queue=2) as webhook:
        for number in range(4):
            webhook.add(Delivery(f"m{number}", ""))
        await webhook.drained()
    assert receiver.ids == ["m0", "m1"]
    assert [letter.id for letter in receiver.letters] == ["m2", "m3"]


async def test_stops_when_the_receiver_is_gone(virtual_clock: VirtualClock) -> None:
    """After 410 nothing is posted until somebody asks for it."""
    receiver = Receiver(virtual_clock, Answer(410), TAKEN)
    async with running(receiver) as webhook:
        webhook.add(Delivery("a", ""))
        webhook.add(Delivery("b", ""))
        await webhook.drained()
        webhook.add(Delivery("c", ""))
        assert (receiver.ids, webhook.gone) == (["a"], True)
        assert [letter.id for letter in receiver.letters] == ["a", "b", "c"]
        webhook.resume()
        webhook.add(Delivery("a", ""))
        await webhook.drained()
        assert (receiver.ids, webhook.problem) == (["a", "a"], "")


async def test_globs_choose_events(virtual_clock: VirtualClock) -> None:
    """A webhook wants the types that one of its globs matches, with their case."""
    async with running(Receiver(virtual_clock), events=["provider.*", "host.started"]) as webhook:
        wanted = ["provider.up", "provider.down", "host.started", "host.ready", "Provider.up", "breaker.opened"]
        assert [name for name in wanted if webhook.wants(name)] == wanted[:3]
