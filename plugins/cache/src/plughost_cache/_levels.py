"""Both levels as one: find an answer, keep one, give some up."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from plughost_redis import BackendUnavailable

from plughost_cache._body import as_json, from_other, pack
from plughost_cache._memory import Entry, Memory
from plughost_cache._record import Record
from plughost_cache._tags import ALL, Tag, Tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plughost import Clock

    from plughost_cache._shared import SharedLevel, Ticket

logger = logging.getLogger("plughost.cache")

TRY_AGAIN = 0.25
"""Seconds between attempts to give up in the second level what it must not have any more."""


class Levels:
    """Memory, and the second level behind it, if there is one.

    Giving up takes effect in memory at once, in the second level as soon as it answers, and in the memory of the other
    processes that share it when they are told, or after `trust` seconds if they are not.
    """

    def __init__(self, memory: Memory, *, clock: Clock, shared: SharedLevel | None = None, trust: float = 0.0) -> None:
        self.memory = memory
        self.shared = shared
        self.trust = trust
        """Seconds that memory is trusted where there is a second level."""
        self.tags = Tags()
        self.invalidations = 0
        self._clock = clock
        self._sender = uuid4().hex
        self._debts = asyncio.Event()

    def find(self, key: bytes) -> Entry | None:
        """What memory has, fresh or not, unless it was given up."""
        return self.memory.get(key)

    async def fetch(self, tags: tuple[Tag, ...], keys: Mapping[str, bytes]) -> tuple[Entry | None, Ticket | None]:
        """What the second level has under one of `keys` (there → in memory), moved up; and a ticket to store."""
        if self.shared is None or not self.shared.usable:
            return None, None
        found, ticket = await self.shared.read([tag.name for tag in tags], list(keys))
        if found is None:
            return None, ticket
        key, record = found
        try:
            body = from_other(record.text)
        except ValueError:
            self.shared.unreadable += 1
            return None, ticket
        now, wall = self._clock.monotonic(), self._clock.time()
        life = min(record.fresh_until - wall, self.trust)
        entry = Entry(
            body,
            stored=now - max(0.0, wall - record.stored),
            fresh_until=now + life,
            tags=tags,
            public=record.public,
        )
        if not entry.alive:  # given up while it was read
            return None, None
        self.memory.put(keys[key], entry)
        return entry, ticket

    async def keep(
        self,
        result: Mapping[str, Any],
        seconds: float,
        *,
        key: bytes,
        began: float,
        tags: tuple[Tag, ...],
        public: bool,
        ticket: Ticket | None,
        shared_key: str,
        tenant: str | None = None,
    ) -> Entry | None:
        """Keep a result asked for at `began`, unless it was given up since. `None` if it can't be kept at all."""
        body = pack(result)
        if body is None:
            return None
        life = seconds if self.shared is None else min(seconds, self.trust)
        entry = Entry(body, stored=began, fresh_until=began + life, tags=tags, public=public)
        if entry.alive:
            self.memory.put(key, entry)
            if ticket is not None and self.shared is not None:
                wall = self._clock.time() - (self._clock.monotonic() - began)
                record = Record(as_json(body), wall, wall + seconds, public, ticket.versions)
                await self.shared.write(shared_key, record, tenant)
        return entry

    def give_up(self, names: Iterable[str]) -> None:
        """Give up all answers with these tags, here and wherever the second level is used."""
        for name in dict.fromkeys(names):
            self._give_up_here(name)
            if self.shared is not None:
                self.shared.owe(name)
                self._debts.set()

    async def settle(self) -> bool:
        """Give up in the second level what was given up here. Says whether that is done."""
        if self.shared is not None:
            try:
                await self.shared.pay(self._sender)
            except BackendUnavailable:
                return False
        return True

    async def settle_forever(self) -> None:
        """Do so whenever there is something, as soon as the second level answers."""
        while True:
            await self._debts.wait()
            self._debts.clear()
            while not await self.settle():
                await self._clock.sleep(TRY_AGAIN)

    def heard(self, message: bytes) -> None:
        """Give up what another process says."""
        names: Sequence[str]
        sender, *names = json.loads(message)
        if sender != self._sender:
            for name in names:
                self._give_up_here(name)

    def forget(self) -> None:
        """Start anew in memory: what others gave up may have been missed."""
        self._give_up_here(ALL)

    def _give_up_here(self, name: str) -> None:
        self.invalidations += 1
        self.tags.give_up(name)
        if name == ALL:
            self.memory.clear()
