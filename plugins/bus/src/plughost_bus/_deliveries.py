"""All webhooks of an instance, and the file of what they could not deliver."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
from anyio import to_thread
from plughost import Clock, HostEvent

from plughost_bus._cloud_event import cloud_event
from plughost_bus._config import WebhookConfig
from plughost_bus._dead_letters import DeadLetters, Letter
from plughost_bus._post import Poster
from plughost_bus._signature import key_of
from plughost_bus._webhook import Delivery, Webhook

logger = logging.getLogger("plughost.bus")

MOST_UNWRITTEN = 10_000
"""Dead letters that wait for the disk; what comes then is lost, counted and logged."""


@dataclass(slots=True)
class _Running:
    config: WebhookConfig
    webhook: Webhook
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class Deliveries:
    """Tells webhooks of host events. `source` is the URI reference of this replica."""

    def __init__(self, dead: DeadLetters, *, source: str, clock: Clock) -> None:
        self.dead = dead
        self.lost = 0
        """Dead letters that could not be written."""
        self._source = source
        self._clock = clock
        self._poster = Poster(clock)
        self._running: dict[str, _Running] = {}
        self._unwritten: deque[Letter] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @property
    def webhooks(self) -> Mapping[str, Webhook]:
        return {name: running.webhook for name, running in self._running.items()}

    async def apply(self, wanted: Mapping[str, WebhookConfig]) -> None:
        """Run these webhooks. One that changed goes on with its queue; one that is not wanted leaves dead letters."""
        for name, running in list(self._running.items()):
            if wanted.get(name) != running.config:
                await running.stop()
                if name not in wanted:
                    running.webhook.give_up("the webhook was taken out of the configuration")
                    del self._running[name]
        for name, config in wanted.items():
            before = self._running.get(name)
            if before is None or before.config != config:
                self._running[name] = self._start(name, config)
                if before is not None:
                    self._running[name].webhook.take_over(before.webhook)

    def _start(self, name: str, config: WebhookConfig) -> _Running:
        keys = [key_of(secret.get_secret_value()) for secret in config.secrets]
        webhook = Webhook(
            name,
            config,
            keys,
            post=partial(self._poster.post, config),
            bury=self._bury,
            clock=self._clock,
            random=random.random,
        )
        return _Running(config, webhook, _task(webhook.run()))

    async def aclose(self, limit: float) -> None:
        """Deliver what is queued within a limit; the rest become dead letters."""
        with anyio.move_on_after(limit):
            for webhook in self.webhooks.values():
                await webhook.drained()
        for running in self._running.values():
            await running.stop()
            running.webhook.give_up("the host stopped")
        await self._poster.aclose()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._write()

    # -- what happens -------------------------------------------------------------------------------------------------

    def tell(self, event: HostEvent) -> None:
        """Queue an event for every webhook that wants it."""
        wanting = [webhook for webhook in self.webhooks.values() if webhook.wants(event.type)]
        if wanting:
            delivery = self.delivery_of(event)
            for webhook in wanting:
                webhook.add(delivery)

    def delivery_of(self, event: HostEvent) -> Delivery:
        """An event as it is posted."""
        found = f"msg_{uuid4().hex}"
        return Delivery(found, cloud_event(event, event_id=found, source=self._source, seconds=self._clock.time()))

    async def redeliver(self, names: list[str]) -> dict[str, int]:
        """Queue dead letters again, oldest first, as many as there is room for; how many of each webhook.

        Raises:
            OSError: The file cannot be read or written.
        """
        found = {}
        for name in names:
            webhook = self._running[name].webhook
            letters = await to_thread.run_sync(self.dead.take, name, webhook.room)
            webhook.resume()
            for letter in letters:
                webhook.add(Delivery(letter.id, letter.body))
            found[name] = len(letters)
        return found

    # -- dead letters -------------------------------------------------------------------------------------------------

    def _bury(self, letter: Letter) -> None:
        if len(self._unwritten) == MOST_UNWRITTEN:
            self._lose([letter], "too many wait for the disk")
            return
        self._unwritten.append(letter)
        self._wake.set()
        if self._writer is None:
            self._writer = _task(self._write_forever())

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write()

    async def _write(self) -> None:
        letters, self._unwritten = list(self._unwritten), deque()
        if letters:
            with anyio.CancelScope(shield=True):
                try:
                    await to_thread.run_sync(self.dead.add, letters)
                except OSError as error:
                    self._lose(letters, str(error))

    def _lose(self, letters: list[Letter], reason: str) -> None:
        self.lost += len(letters)
        logger.error("%d dead letters are lost: %s", len(letters), reason)


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    # A context of its own, or it would hold on to the call that it happened to start in.
    return asyncio.get_running_loop().create_task(work, context=Context())
