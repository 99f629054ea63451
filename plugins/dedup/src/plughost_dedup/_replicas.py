"""Single flight across replicas: a lock on Redis that a dead holder loses, and that a late one cannot use.

Each execution has a random token of its own. It is the value of the lock, and the fence: the script that publishes an
outcome does so only if the lock still holds that very token, in one step. A number that grows would do no more here,
since lock and outcome live on one server, and would start anew when that server loses its data.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from plughost_redis import BackendUnavailable, RedisBackend, Script

if TYPE_CHECKING:
    from plughost import Clock, SecretBox

logger = logging.getLogger("plughost.dedup")

CLEAR = b"clear"
"""The message by which one replica asks all to forget what they keep."""
POLL = 0.5
"""Seconds after which a replica that waits for another one's outcome looks whether that one still lives."""
TOKEN = 16
STAMP = 16
"""Digits of a time in microseconds, as the server writes it."""

CLAIM = """
local outcome = redis.call('GET', KEYS[3])
if outcome then return {'done', outcome} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local change = ARGV[3] ~= '' and now - ARGV[3] or 0
local kept = redis.call('GET', KEYS[2])
if kept and tonumber(string.sub(kept, 17, 32)) > change then return {'kept', kept} end
local held = redis.call('GET', KEYS[1])
if held then return {tonumber(string.sub(held, 33)) > change and 'held' or 'outdated', held} end
local mine = ARGV[1] .. string.format('%016.0f', now)
redis.call('SET', KEYS[1], mine, 'PX', ARGV[2])
return {'mine', mine}
"""
"""Which execution is whose, and when it began, on the server's clock. How long ago a change was, each replica measures
by itself; so their clocks need not agree, and what began within a round trip after the change may count as before."""
RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
FINISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) end
if tonumber(ARGV[4]) > 0 then redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[4]) end
redis.call('PUBLISH', ARGV[6], ARGV[1])
return 1
"""


class Outdated(Exception):  # noqa: N818 - a state, not a mistake
    """Raised when what another one executes was begun before a change."""


class KeyReused(Exception):  # noqa: N818 - a state, not a mistake
    """Raised when a key stands for other arguments."""


class Replicas:
    """The executions of all replicas, by key. Outcomes are bytes, never empty.

    `seal` is asked for whenever something is written or read. `on_clear` is called when any replica was told to forget.
    """

    def __init__(
        self,
        backend: RedisBackend,
        *,
        lease: float,
        clock: Clock,
        seal: Callable[[], SecretBox | None],
        on_clear: Callable[[], object],
    ) -> None:
        self.backend = backend
        self._clock = clock
        self.lease = lease
        self._seal = seal
        self._on_clear = on_clear
        self._channel = backend.key("ended")
        self._claim = backend.script(CLAIM)
        self._renew = backend.script(RENEW)
        self._finish = backend.script(FINISH)
        self._ended: defaultdict[bytes, set[asyncio.Event]] = defaultdict(set)
        self.stale = 0
        """Outcomes of this replica that came after its lock was lost, and were not published."""

    async def start(self) -> None:
        await self.backend.start()
        self.backend.subscribe(self._channel, self._heard, self._wake_all)

    async def aclose(self) -> None:
        await self.backend.aclose()

    async def run(
        self,
        key: bytes,
        fingerprint: bytes,
        work: Callable[[], Awaitable[bytes]],
        *,
        keep: Callable[[], float],
        tenant: str | None = None,
        changed: float | None = None,
    ) -> bytes:
        """The outcome of `work()`, or of the execution of the same key in another replica.

        `keep()` says, after the work, for how many seconds a later call still gets the outcome. While the server is
        away every replica runs its own. An outcome that cannot be unsealed is empty. What was begun before `changed`
        (of the clock that never goes back) does not count.

        Raises:
            KeyReused: The key stands for another fingerprint.
        """
        try:
            mine, found = await self._await_turn(key, fingerprint, changed)
        except (BackendUnavailable, Outdated):
            return await work()
        return await self._lead(key, mine, work, keep, tenant) if mine else found

    async def clear(self) -> int:
        """Delete what is kept, and tell the other replicas; how much it was.

        Raises:
            BackendUnavailable: The server is away.
        """

        async def delete(redis: Any) -> int:
            names = [name async for name in redis.scan_iter(match=self.backend.key("kept", "*"), count=1000)]
            await redis.publish(self._channel, CLEAR)
            return int(await redis.unlink(*names)) if names else 0

        return await self.backend.run(delete, timeout=5.0)

    # -- those who wait -----------------------------------------------------------------------------------------------

    async def _await_turn(self, key: bytes, fingerprint: bytes, changed: float | None) -> tuple[bytes, bytes]:
        """What the lock holds if it is this one's, and otherwise the outcome of somebody else."""
        token, other = secrets.token_bytes(TOKEN) + fingerprint, b""
        while True:
            ended = asyncio.Event()
            if other:
                self._ended[other].add(ended)  # before the question, or the answer could slip through between
            try:
                state, value = await self._claim_or_release(key, token, other, changed)
                if state == b"mine":
                    return value, b""
                if state == b"done":
                    return b"", self._read(key, value)
                if fingerprint != (value[:TOKEN] if state == b"kept" else value[TOKEN : 2 * TOKEN]):
                    raise KeyReused
                if state == b"kept":
                    return b"", self._read(key, value[TOKEN + STAMP :])
                if state == b"outdated":
                    raise Outdated
                if value == other:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL):
                            await ended.wait()
            finally:
                self._forget(other, ended)
            other = value

    async def _claim_or_release(
        self, key: bytes, token: bytes, other: bytes, changed: float | None
    ) -> tuple[bytes, bytes]:
        """Ask for the lock; whoever is cancelled meanwhile does not hold it afterwards."""
        ago = "" if changed is None else int((self._clock.monotonic() - changed) * 1e6)
        asking = asyncio.create_task(_asked(self._claim, self._names(key, other), [token, self._lease_ms, ago]))
        try:
            state, value = await asyncio.shield(asking)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(BackendUnavailable):
                state, value = await asking
                if state == b"mine":
                    await self._publish(key, value, b"", 0)
            raise
        return state, value

    def _forget(self, other: bytes, ended: asyncio.Event) -> None:
        if waiting := self._ended.get(other):
            waiting.discard(ended)
            if not waiting:
                del self._ended[other]

    def _heard(self, message: bytes) -> None:
        if message == CLEAR:
            self._on_clear()
        for ended in self._ended.get(message, ()):
            ended.set()

    def _wake_all(self) -> None:
        for waiting in self._ended.values():
            for ended in waiting:
                ended.set()

    # -- the one that works -------------------------------------------------------------------------------------------

    async def _lead(
        self,
        key: bytes,
        mine: bytes,
        work: Callable[[], Awaitable[bytes]],
        keep: Callable[[], float],
        tenant: str | None,
    ) -> bytes:
        """Run the work, hold the lock meanwhile, and publish the outcome; if cancelled, that somebody else may run."""
        renewing = asyncio.create_task(self._keep_lock(key, mine))
        outcome, kept = b"", 0.0
        try:
            outcome = await work()
            kept = keep()
            return outcome
        finally:
            renewing.cancel()
            with anyio.CancelScope(shield=True), suppress(BackendUnavailable):
                await self._publish(key, mine, self._written(key, outcome, tenant), kept)

    async def _keep_lock(self, key: bytes, mine: bytes) -> None:
        while True:
            await self._clock.sleep(self.lease / 3)
            with suppress(BackendUnavailable):
                if not await _asked(self._renew, self._names(key)[:1], [mine, self._lease_ms]):
                    return

    async def _publish(self, key: bytes, mine: bytes, written: bytes, kept: float) -> None:
        keep_ms = int(kept * 1000) if written else 0
        entry = mine[TOKEN:] + written
        arguments = [mine, written, self._lease_ms, keep_ms, entry, self._channel]
        if not await _asked(self._finish, self._names(key, mine), arguments) and written:
            self.stale += 1

    # -- names and values ---------------------------------------------------------------------------------------------

    @property
    def _lease_ms(self) -> int:
        return int(self.lease * 1000)

    def _names(self, key: bytes, token: bytes = b"") -> list[str]:
        name = key.hex()
        return [
            self.backend.key("lock", name),
            self.backend.key("kept", name),
            self.backend.key("outcome", name, token[:TOKEN].hex()),
        ]

    def _written(self, key: bytes, outcome: bytes, tenant: str | None) -> bytes:
        """What others are to read; nothing, if it cannot be sealed: the call itself has succeeded."""
        if (box := self._seal()) is None or not outcome:
            return outcome
        try:
            return box.seal(outcome, context=key, tenant=tenant)
        except Exception as error:  # noqa: BLE001 - whatever a box raises
            logger.warning("an outcome cannot be sealed, and is not shared: %r", error)
            return b""

    def _read(self, key: bytes, written: bytes) -> bytes:
        """The outcome; nothing, if it was not sealed by us: what somebody else wrote there is not believed."""
        if (box := self._seal()) is None:
            return written
        try:
            return box.unseal(written, context=key)
        except Exception as error:  # noqa: BLE001 - whatever a box raises
            logger.warning("an outcome on %s cannot be unsealed: %r", self.backend.url, error)
            return b""


async def _asked(script: Script, keys: list[str], arguments: list[Any]) -> Any:
    """What the script answers; a server that refuses it is as good as away."""
    try:
        return await script(keys, arguments)
    except BackendUnavailable:
        raise
    except Exception as error:
        logger.warning("the shared store refused a command: %s", error)
        raise BackendUnavailable(str(error)) from error
