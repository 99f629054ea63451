"""The plugin: the host's changes on the bus, and its events to replicas and webhooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from anyio import to_thread
from plughost import HealthCheck, HostEvent, Kind, MCPPlugin, Operation, PluginError, ReplicaBus, hookimpl
from plughost_redis import RedisBackend
from pydantic import BaseModel, ConfigDict

from plughost_bus._config import BusConfig
from plughost_bus._dead_letters import DeadLetters
from plughost_bus._deliveries import Deliveries
from plughost_bus._metrics import meter
from plughost_bus._replicas import REPLICA_EVENT, Bus
from plughost_bus._webhook import Webhook

if TYPE_CHECKING:
    from plughost import Host

KINDS = {"tools": {Kind.TOOLS}, "prompts": {Kind.PROMPTS}, "resources": {Kind.RESOURCES, Kind.TEMPLATES}}


class RedeliverParameters(BaseModel):
    """What `redeliver` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook: str | None = None
    """The webhook whose dead letters are delivered again; all, unless given."""


class ProbeParameters(BaseModel):
    """What `test` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook: str
    """The webhook that gets an event of type `plughost.bus.test`."""


class _Home:
    """The host, as the bus sees it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.told = host.publish

    async def sync(self) -> None:
        await self._host.subscriptions.sync()

    async def refresh(self, lists: set[str]) -> None:
        await self._host.refresh({kind for word in lists for kind in KINDS[word]}, announce=False)


class BusPlugin(MCPPlugin[BusConfig]):
    """Carries changes between replicas, and events to webhooks. It stands in the way of no call."""

    provides = (ReplicaBus,)

    async def register(self, host: Host) -> None:
        config, replica = self.config, uuid4().hex[:12]
        self._relay = config.relay
        backend = None
        if not config.url.is_memory:
            backend = RedisBackend(config.url, name=self.name, host=host, prefix="plughost:bus")
        self.bus = Bus(replica, _Home(host), clock=host.clock, backend=backend, max_watched=config.max_watched)
        dead = DeadLetters(host.config.folder / config.dead_letters, config.max_dead_letters)
        self.deliveries = Deliveries(dead, source=f"/plughost/{host.settings.name}/{replica}", clock=host.clock)
        try:
            await self.bus.start()
            await self.deliveries.apply(config.webhooks)
        except BaseException:
            await self.bus.aclose()
            raise
        host.provide(ReplicaBus, self.bus)  # type: ignore[type-abstract]  # shared under its protocol
        self._monotonic = host.clock.monotonic
        meter.watch(self)

    async def unregister(self) -> None:
        meter.unwatch(self)
        await self.deliveries.aclose(self.config.flush_timeout)
        await self.bus.aclose()

    async def reconfigure(self, config: BusConfig) -> bool:
        """Webhooks come, go and change in place; with another place for state the instance is made anew."""
        fixed = ("url", "dead_letters", "max_dead_letters")
        if any(getattr(config, key) != getattr(self.config, key) for key in fixed):
            return False
        self.config = config
        self._relay, self.bus.max_watched = config.relay, config.max_watched
        await self.deliveries.apply(config.webhooks)
        return True

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        """Hand an event on; those of other replicas are handed on by themselves."""
        if event.type.startswith(REPLICA_EVENT):
            return
        self.deliveries.tell(event)
        if any(fnmatchcase(event.type, pattern) for pattern in self._relay):
            self.bus.relay(event)

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        found = [] if self.bus.backend is None else [self.bus.backend.health_check()]
        return [*found, *(HealthCheck(f"webhook-{name}", partial(self._check, name)) for name in self.config.webhooks)]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Replicas, what was told, and the state of each webhook"),
            Operation(
                "redeliver",
                self.redeliver,
                parameters=RedeliverParameters,
                changes=True,
                summary="Deliver dead letters again",
            ),
            Operation(
                "test",
                self.test,
                parameters=ProbeParameters,
                changes=True,
                summary="Post a test event to a webhook now",
            ),
        ]

    # -- operations ---------------------------------------------------------------------------------------------------

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """What the operation of this name answers."""
        del parameters
        bus, now = self.bus, self._monotonic()
        return {
            "replica": bus.replica,
            "url": str(self.config.url),
            "up": bus.backend is None or bus.backend.up,
            "peers": {
                key: {"watches": len(peer.uris), "heard_seconds_ago": round(now - peer.heard, 1)}
                for key, peer in bus.peers.items()
            },
            "watched": len(bus.here),
            "unsent": bus.unsent,
            "sent": bus.counts.sent,
            "received": bus.counts.received,
            "resyncs": bus.counts.resyncs,
            "dropped": bus.counts.dropped,
            "unreadable": bus.counts.unreadable,
            "webhooks": {name: _shown(webhook) for name, webhook in self.deliveries.webhooks.items()},
            "dead_letters": await self._letters(),
            "lost_letters": self.deliveries.lost,
        }

    async def redeliver(self, parameters: RedeliverParameters) -> Mapping[str, Any]:
        """Queue dead letters again; says how many of each webhook, and how many are left."""
        names = [self._known(parameters.webhook)] if parameters.webhook is not None else list(self.config.webhooks)
        found = await self.deliveries.redeliver(names)
        return {"redelivered": found, "left": await self._letters()}

    async def test(self, parameters: ProbeParameters) -> Mapping[str, Any]:
        """Post a test event once; says what the receiver answered."""
        webhook = self.deliveries.webhooks[self._known(parameters.webhook)]
        delivery = self.deliveries.delivery_of(HostEvent("bus.test", self.name))
        answer = await webhook.try_once(delivery)
        return {"id": delivery.id, "taken": answer.taken, "answer": str(answer)}

    async def _letters(self) -> int | None:
        """How many dead letters there are; `None` if the file cannot be read."""
        try:
            return await to_thread.run_sync(self.deliveries.dead.count)
        except OSError:
            return None

    def _known(self, name: str) -> str:
        if name not in self.config.webhooks:
            raise PluginError(
                self.name, f"has no webhook {name!r}", remedy=f"There are: {', '.join(self.config.webhooks) or 'none'}"
            )
        return name

    async def _check(self, name: str) -> None:
        """Raise while the last delivery of a webhook is a dead letter."""
        webhook = self.deliveries.webhooks.get(name)
        if webhook is not None and webhook.problem:
            raise RuntimeError(f"its last event is a dead letter: {webhook.problem}")


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "queued": webhook.queued,
        "delivered": webhook.delivered,
        "failed_attempts": webhook.failed,
        "dead": webhook.dead,
        "gone": webhook.gone,
        "problem": webhook.problem,
    }
