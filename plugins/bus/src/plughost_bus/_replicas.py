"""The bus: what changes here is told to the other replicas, and what changes there to the clients of this one.

Pub/sub delivers at most once. What this replica could not send it sends later. What it may have missed it makes up for:
it tells its clients that everything changed, which the protocol allows, as a notification says "look again", not what.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import anyio.lowlevel
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent
from plughost import Clock, HostEvent
from plughost_redis import BackendUnavailable, RedisBackend

from plughost_bus._message import LISTS, Message, changes

logger = logging.getLogger("plughost.bus")

JOIN_LIMIT = 1.0
"""Seconds that a start waits for the subscription; later, something may have been missed."""
ANSWER_LIMIT = 0.5
"""Seconds that a new listener waits at most until other replicas watch what it does."""
BEAT = 10.0
"""Seconds between two messages that tell who is there and what is watched there."""
SILENCE = 3.5 * BEAT
"""Seconds after which a replica that says nothing is gone."""
MOST_UNSENT = 10_000
"""Resources that are remembered while nothing can be sent; beyond, the others are told that all changed."""
MOST_EVENTS = 1000
"""Host events that wait to be sent."""
MOST_URIS = 1000
"""Resources that one message of changes names."""
MOST_PEERS = 1000
"""Replicas that are listened to."""
AGAIN = 1.0
"""Seconds after which a message that the server refused is sent again."""
REPLICA_EVENT = "replica."
"""Goes in front of the type of an event of another replica, so that nobody takes it for one of this host."""


class Home(Protocol):
    """The host, as the bus sees it."""

    async def sync(self) -> None:
        """Have providers watch what clients here and elsewhere want."""

    async def refresh(self, lists: set[str]) -> None:
        """Ask the providers for their lists again: they may be made of what another replica changed."""

    def told(self, event: HostEvent) -> None:
        """An event of another replica arrived."""


@dataclass(slots=True)
class Peer:
    """Another replica: what its clients watch, and when it was last heard of."""

    heard: float
    uris: frozenset[str] = frozenset()


@dataclass(slots=True)
class Counts:
    """Numbers since the start."""

    sent: int = 0
    received: int = 0
    resyncs: int = 0
    unreadable: int = 0
    dropped: int = 0


@dataclass(slots=True)
class _Question:
    """A wait for the other replicas to watch what a client here watches."""

    answers: set[str] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Bus:
    """A `plughost.ReplicaBus`. Without a backend it reaches the listeners of this process alone.

    Listeners here hear of a change at once, whatever becomes of the message. Events are level triggers, so several of
    one kind that wait are one. What came from elsewhere is never sent on.
    """

    def __init__(
        self, replica: str, home: Home, *, clock: Clock, backend: RedisBackend | None = None, max_watched: int = 1000
    ) -> None:
        self.replica = replica
        self.backend = backend
        self.max_watched = max_watched
        self.peers: dict[str, Peer] = {}
        self.here: frozenset[str] = frozenset()
        """What clients of this replica watch, as far as the others are told."""
        self.counts = Counts()
        self._home = home
        self._clock = clock
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}
        self._unsent: dict[ServerEvent, None] = {}
        self._events: deque[HostEvent] = deque(maxlen=MOST_EVENTS)
        self._asked: list[Message] = []
        self._answers: deque[Message] = deque()
        self._heard: dict[ServerEvent, None] = {}
        self._say_here = self._ask_all = self._watched_anew = False
        self._to_send, self._to_do, self._joined = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._running = False
        self._questions: dict[int, _Question] = {}
        self._number = 0
        self._tasks: list[asyncio.Task[None]] = []

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the other replicas; if the backend is away, later."""
        if self.backend is None:
            return
        await self.backend.start()
        self.backend.subscribe(self._channel, self._receive, self._reset)
        for work in (self._send(), self._work(), self._beat()):
            # A context of its own, or it would hold on to the call that it happened to start in.
            self._tasks.append(asyncio.get_running_loop().create_task(_forever(work), context=Context()))
        if self.backend.up:
            with anyio.move_on_after(JOIN_LIMIT):
                await self._joined.wait()
        self._running = True

    async def aclose(self) -> None:
        """Send what waits, if that is possible now, and leave."""
        if self.backend is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._send_all()
            await self._publish(Message("gone", self.replica))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others notice the silence
            logger.info("replica %s left without a word: %s", self.replica, error)
        await self.backend.aclose()

    # -- what the host does -------------------------------------------------------------------------------------------

    async def publish(self, event: ServerEvent) -> None:
        """Tell listeners here now, and the other replicas soon. Waits for no network."""
        self._tell(event)
        if self.backend is not None:
            self._unsent[event] = None
            if len(self._unsent) > MOST_UNSENT:
                self._unsent = dict.fromkeys([*LISTS.values(), *map(ResourceUpdated, sorted(self.watched))])
            self._to_send.set()
        await anyio.lowlevel.checkpoint()

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Have a listener told of each event, here or elsewhere, until what is returned is called."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    async def watch(self, uris: frozenset[str]) -> None:
        """Clients here watch these resources. Returns when the others do too, or have not said so in time.

        What is no longer watched they learn with the next beat: to watch a little longer does no harm.
        """
        if len(uris) > self.max_watched:
            logger.warning(
                "clients watch %d resources; other replicas watch %d of them (max_watched)", len(uris), self.max_watched
            )
            kept = sorted(uris & self.here) + sorted(uris - self.here)
            uris = frozenset(kept[: self.max_watched])
        new, self.here = uris - self.here, uris
        if self.backend is None or not new or not self.backend.up:
            return
        self._number += 1
        number, question = self._number, _Question()
        self._questions[number] = question
        try:
            with anyio.move_on_after(ANSWER_LIMIT):
                asked = await self._publish(Message("watch", self.replica, uris=tuple(sorted(new)), number=number))
                while len(question.answers) < asked - 1:
                    question.news.clear()
                    await question.news.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client need not know
            logger.info("other replicas will hear later of what clients watch: %s", error)
        finally:
            del self._questions[number]

    @property
    def watched(self) -> frozenset[str]:
        """What clients of the other replicas watch."""
        return frozenset().union(*(peer.uris for peer in self.peers.values()))

    def relay(self, event: HostEvent) -> None:
        """Have the plugins of the other replicas told of a host event."""
        if self.backend is None or event.type.startswith(REPLICA_EVENT):
            return
        self.counts.dropped += len(self._events) == MOST_EVENTS
        self._events.append(event)
        self._to_send.set()

    @property
    def unsent(self) -> int:
        """Changes and events that wait to be sent."""
        return len(self._unsent) + len(self._events)

    # -- sending ------------------------------------------------------------------------------------------------------

    @property
    def _channel(self) -> str:
        assert self.backend is not None
        return self.backend.key("replicas")

    async def _publish(self, message: Message) -> int:
        """How many have got it, this replica included."""
        assert self.backend is not None
        channel, data = self._channel, message.encode()
        found: int = await self.backend.run(lambda redis: redis.publish(channel, data))
        return found

    async def _send(self) -> None:
        assert self.backend is not None
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            try:
                await self._send_all()
            except BackendUnavailable:
                await self.backend.wait_until_up()
                self._to_send.set()
            except Exception as error:  # noqa: BLE001 - the client's, which is imported only where it is used
                logger.warning("%s refused a message, which is tried again: %s", self.backend.url, error)
                await self._clock.sleep(AGAIN)
                self._to_send.set()

    async def _send_all(self) -> None:
        """Send whatever waits, what is urgent first. What could not be sent waits on."""
        while self._answers:
            await self._publish(self._answers[0])
            self._answers.popleft()
        while self._unsent:
            batch = list(self._unsent)[:MOST_URIS]
            for event in batch:  # before, as it may change again meanwhile
                del self._unsent[event]
            try:
                await self._publish(changes(self.replica, batch))
            except BaseException:
                self._unsent.update(dict.fromkeys(batch))
                raise
            self.counts.sent += len(batch)
        while self._events:
            told = self._events.popleft()
            body = {"type": told.type, "subject": told.subject, "details": dict(told.details)}
            try:
                await self._publish(Message("event", self.replica, body=body))
            except BaseException:
                self._events.appendleft(told)
                raise
            self.counts.sent += 1
        if self._say_here:
            ask, self._say_here, self._ask_all = self._ask_all, False, False
            try:
                await self._publish(Message("here", self.replica, uris=tuple(sorted(self.here)), ask=ask))
            except BaseException:
                self._say_here, self._ask_all = True, ask
                raise

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT)
            self._say_here = True
            self._to_send.set()
            now = self._clock.monotonic()
            for silent in [key for key, peer in self.peers.items() if now - peer.heard > SILENCE]:
                logger.info("replica %s is silent; what its clients watch is forgotten", silent)
                del self.peers[silent]
                self._watched_anew = True
                self._to_do.set()

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        """Messages may have been missed: look again at everything, and ask who is there."""
        if self._running:
            logger.warning("messages of other replicas may have been missed; clients are told to look again")
            self.counts.resyncs += 1
            self._heard.update(dict.fromkeys([*LISTS.values(), *map(ResourceUpdated, sorted(self.here))]))
            self._to_do.set()
        self._joined.set()
        self._say_here = self._ask_all = True
        self._to_send.set()

    def _receive(self, data: bytes) -> None:
        message = Message.decode(data)
        if message is None:
            self.counts.unreadable += 1
            return
        if message.sender == self.replica:
            return
        if message.kind == "gone":
            self._watched_anew |= self.peers.pop(message.sender, None) is not None
            self._to_do.set()
            return
        if message.sender not in self.peers and len(self.peers) >= MOST_PEERS:
            return
        peer = self.peers.setdefault(message.sender, Peer(0.0))
        peer.heard = self._clock.monotonic()
        match message.kind:
            case "changes":
                self.counts.received += len(message.events)
                self._heard.update(dict.fromkeys(message.events))
            case "watch":
                peer.uris = self._bounded(peer.uris.union(message.uris))
                self._watched_anew = True
                self._asked.append(message)
            case "here":
                before, peer.uris = peer.uris, self._bounded(frozenset(message.uris))
                self._watched_anew |= before != peer.uris
                if message.ask:
                    self._say_here = True
                    self._to_send.set()
            case "watching":
                if message.to == self.replica and (question := self._questions.get(message.number)) is not None:
                    question.answers.add(message.sender)
                    question.news.set()
            case "event":
                self.counts.received += 1
                self._hand_on(message)
        self._to_do.set()

    def _bounded(self, uris: frozenset[str]) -> frozenset[str]:
        return uris if len(uris) <= self.max_watched else frozenset(sorted(uris)[: self.max_watched])

    def _hand_on(self, message: Message) -> None:
        body = message.body or {}
        details = body.get("details")
        details = details if isinstance(details, dict) else {}
        self._home.told(
            HostEvent(
                f"{REPLICA_EVENT}{body.get('type')}", str(body.get("subject")), {**details, "replica": message.sender}
            )
        )

    async def _work(self) -> None:
        """Do what was heard: it takes longer than a listener on a subscription may."""
        while True:
            await self._to_do.wait()
            self._to_do.clear()
            if self._watched_anew:
                self._watched_anew = False
                asked, self._asked = self._asked, []
                await self._safely(self._home.sync())
                self._answers += [
                    Message("watching", self.replica, to=item.sender, number=item.number) for item in asked
                ]
                self._to_send.set()
            events, self._heard = self._heard, {}
            lists = {word for word, event in LISTS.items() if event in events}
            if lists:
                await self._safely(self._home.refresh(lists))
            for event in events:
                self._tell(event)

    @staticmethod
    async def _safely(work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("following another replica failed")

    def _tell(self, event: ServerEvent) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed; the others are told")


async def _forever(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        logger.exception("the bus stopped")
