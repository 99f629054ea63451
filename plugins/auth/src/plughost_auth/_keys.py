"""The public keys of one issuer: fetched before they are needed, kept while the issuer is away, never asked in a storm.

No key is fetched because somebody sends a token, with one exception: a token that names a key which nobody knows yet,
as right after a rotation. That fetch is made once for all who wait, and not again within a cooldown (A7).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from jwt import PyJWK, PyJWTError
from plughost import Clock

MAX_KEYS = 100
MIN_RSA_BITS = 2048
_FITTING: Mapping[str, Collection[str]] = {
    "RSA ": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
    "OKP Ed25519": ("EdDSA",),
    "OKP Ed448": ("EdDSA",),
}
"""Type and curve of a key → what it can sign."""


class IssuerUnavailable(Exception):  # noqa: N818 - a state, not a mistake
    """Raised when nothing can be said of a token, because its issuer cannot be asked; the answer is 503."""


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """When keys are fetched, and how long they are good; in seconds."""

    refresh_every: float = 600.0
    cooldown: float = 30.0
    stale_for: float = 86400.0


def parse_keys(body: bytes, algorithms: Collection[str]) -> Mapping[tuple[str | None, str], PyJWK]:
    """The usable keys of a JWK set by id and algorithm.

    Keys for encryption, shared secrets, private and weak ones and those of other algorithms are left out.

    Raises:
        ValueError: It is no JWK set, is too large, or has no usable key.
    """
    try:
        members = json.loads(body)["keys"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is no JWK set: {error!r}") from error
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ValueError(f"keys is no list of at most {MAX_KEYS}")
    keys: dict[tuple[str | None, str], PyJWK] = {}
    for member in filter(_verifies, members):
        for algorithm in algorithms:
            if (key := _key(member, algorithm)) is not None:
                keys.setdefault((key.key_id, algorithm), key)
    if not keys:
        raise ValueError(f"it has no key for {', '.join(algorithms)}")
    return keys


def _verifies(member: object) -> bool:
    """Whether a member of the set is a key to verify with. One whose private part is told, too, proves nothing."""
    if not isinstance(member, dict) or member.get("use", "sig") != "sig" or "d" in member:
        return False
    operations = member.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return False
    return isinstance(member.get("kid"), str | None)


def _key(member: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    """The key, if it is for this algorithm, strong, and understood; one that is not takes no other with it.

    A key that names no algorithm, as those of Entra ID, is for each that fits it.
    """
    fitting = _FITTING.get(f"{member.get('kty')} {member.get('crv', '')}", ())
    if algorithm not in fitting or member.get("alg", algorithm) != algorithm:
        return None
    try:
        key = PyJWK(dict(member), algorithm)
    except (PyJWTError, TypeError, ValueError):
        return None
    return None if key.key_type == "RSA" and key.key.key_size < MIN_RSA_BITS else key


class KeySet:
    """The keys of one issuer. `fetch()` gives the JWK set; `on_removed()` is told when a key is gone."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        clock: Clock,
        *,
        algorithms: Collection[str],
        times: KeyTimes,
        on_removed: Callable[[], None],
        on_outcome: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._fetch = fetch
        self._now = clock.monotonic
        self._algorithms = algorithms
        self._times = times
        self._on_removed = on_removed
        self._on_outcome = on_outcome
        self._keys: Mapping[tuple[str | None, str], PyJWK] = {}
        self._fetched_at: float | None = None
        self._forced_at: float | None = None
        self._asking: asyncio.Task[None] | None = None
        self.problem: str | None = "its keys have not been fetched yet"
        """Why the newest fetch failed, if it did."""

    @property
    def age(self) -> float | None:
        """Seconds since the keys were fetched."""
        return None if self._fetched_at is None else self._now() - self._fetched_at

    @property
    def fresh(self) -> bool:
        """Whether the keys may still be used."""
        return self.age is not None and self.age <= self._times.refresh_every + self._times.stale_for

    @property
    def ids(self) -> Iterable[str]:
        """What `show` says of the keys."""
        return [f"{kid or '(no id)'} {algorithm}" for kid, algorithm in self._keys]

    @property
    def wait(self) -> float:
        """Seconds until the next fetch in the background."""
        return self._times.cooldown if self.problem else self._times.refresh_every

    async def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of this id; without an id, the only one there is. `None` if there is none, also after a fetch.

        Raises:
            IssuerUnavailable: There are no keys to look in.
        """
        found = self._find(kid, algorithm)
        if found is None and self._may_ask():
            await self.refresh()
            found = self._find(kid, algorithm)
        if found is None and (self.problem is not None or not self.fresh):
            raise IssuerUnavailable(self.problem or "its keys are too old")  # perhaps the key is one of those unseen
        return found

    async def refresh(self) -> None:
        """Fetch the keys now, or wait for the fetch under way. A failure keeps the keys."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask(), context=Context())
        await asyncio.shield(self._asking)

    async def aclose(self) -> None:
        """End the fetch under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _may_ask(self) -> bool:
        """Whether a token may lead to a fetch; what the background fetches does not count against it."""
        if self._asking is not None:
            return True
        if self._forced_at is not None and self._now() - self._forced_at < self._times.cooldown:
            return False
        self._forced_at = self._now()
        return True

    def _find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        if not self.fresh:
            return None
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, name), key in self._keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _ask(self) -> None:
        try:
            keys = parse_keys(await self._fetch(), self._algorithms)
        except Exception as error:  # noqa: BLE001 - whatever it is, the keys that are known stay
            self.problem = f"{type(error).__name__}: {error}"
        else:
            known, self._keys = self._keys, keys
            self._fetched_at, self.problem = self._now(), None
            if any(name not in keys or keys[name].key != key.key for name, key in known.items()):
                self._on_removed()
        finally:
            self._asking = None
        self._on_outcome(self.problem)
