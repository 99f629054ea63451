"""The second level: answers that several processes share, or that survive a restart.

An answer is written with the *versions* of its tags that were read before the provider was asked; it is valid only
while they are the versions in force. So giving up a tag is writing one new version, however many answers have it, and
an answer that was under way meanwhile is stored in vain (the read-invalidate race). A version that the database lost
(evicted, flushed) is replaced by a new random one, which makes invalid what was stored under the old.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from plughost import SealError
from plughost_redis import BackendUnavailable

from plughost_cache._record import Record, decode, encode

if TYPE_CHECKING:
    from plughost import Clock, SecretBox

    from plughost_cache._store import Store

logger = logging.getLogger("plughost.cache")

VERSION_TTL = 2 * 86_400.0
"""Seconds that a version is kept; no answer is kept that long."""
LONGEST = 86_400.0
"""Seconds that an answer may be kept at most, stale time included."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What must be known before the provider is asked, to store its answer."""

    versions: bytes


class SharedLevel:
    """Answers in a database, under keys that are already digests.

    What was given up while the database was away is owed to it. Until it is paid nothing is read or written: the
    answers there may be those that were given up.
    """

    def __init__(self, store: Store, *, clock: Clock, compress_above: int) -> None:
        self.store = store
        self.compress_above = compress_above
        self.box: SecretBox | None = None
        self.owed: dict[str, object] = {}
        self.failures = 0
        """Questions that the database did not answer."""
        self.unreadable = 0
        """Answers that were no records, or sealed with another key."""
        self._clock = clock
        self._paying = asyncio.Lock()

    @property
    def usable(self) -> bool:
        """Whether to ask it at all."""
        return self.store.up and not self.owed

    async def read(self, names: Sequence[str], keys: Sequence[str]) -> tuple[tuple[str, Record] | None, Ticket | None]:
        """The first valid answer under `keys`, and a ticket to store one; no ticket if the database is away."""
        wanted = [version_key(name) for name in names]
        try:
            found = await self.store.get([*wanted, *keys])
            versions = found[: len(wanted)]
            if not all(versions):
                fresh = {key: os.urandom(8) for key, there in zip(wanted, versions, strict=True) if not there}
                made = dict(zip(fresh, await self.store.add(fresh, VERSION_TTL), strict=True))
                versions = [there or made[key] for key, there in zip(wanted, versions, strict=True)]
        except BackendUnavailable:
            self.failures += 1
            return None, None
        ticket = Ticket(b"".join(version or b"" for version in versions))
        now = self._clock.time()
        for key, data in zip(keys, found[len(wanted) :], strict=True):
            record = self._decoded(key, data) if data is not None else None
            if record is not None and record.versions == ticket.versions and now < record.fresh_until:
                return (key, record), ticket
        return None, ticket

    async def write(self, key: str, record: Record, tenant: str | None = None) -> None:
        """Store an answer until it is no longer fresh; without effect if the database is away, or no key is there."""
        ttl = min(record.fresh_until - self._clock.time(), LONGEST)
        if ttl <= 0 or not self.usable:
            return
        context, box = key.encode(), self.box
        try:
            data = encode(record, compress_above=self.compress_above, box=box, context=context, tenant=tenant)
            await self.store.put({key: data}, ttl)
        except BackendUnavailable:
            self.failures += 1
        except SealError as error:
            logger.warning("an answer cannot be sealed, and is not stored: %s", error)

    def owe(self, name: str) -> None:
        """Note that a tag is to be given up in the database. Nothing is read there until it was."""
        self.owed[name] = object()

    async def pay(self, sender: str) -> None:
        """Give up in the database what is owed to it, and tell all processes.

        Raises:
            BackendUnavailable: It is away; everything is owed still.
        """
        async with self._paying:  # paid twice, it would take with it what others stored since
            paid = dict(self.owed)
            if not paid:
                return
            await self.store.put({version_key(name): os.urandom(8) for name in paid}, VERSION_TTL)
            await self.store.tell(json.dumps([sender, *paid]).encode())
            for name, debt in paid.items():
                if self.owed.get(name) is debt:  # it may have been given up again meanwhile
                    del self.owed[name]

    def _decoded(self, key: str, data: bytes) -> Record | None:
        try:
            return decode(data, box=self.box, context=key.encode())
        except ValueError as error:
            if not self.unreadable:
                logger.warning(
                    "what the cache had stored under %s is unreadable, and so are others perhaps: %s", key, error
                )
            self.unreadable += 1
            return None


def version_key(name: str) -> str:
    """The key of a tag's version."""
    return f"v:{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
