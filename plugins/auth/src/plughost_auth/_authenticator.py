"""From a token to who bears it: keys of the config, JWTs of the issuers, tokens that an issuer is asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from hashlib import sha256

from plughost import Principal

from plughost_auth._api_key import PREFIX
from plughost_auth._claims import Reason, RejectedToken, Verified, identify
from plughost_auth._config import AuthConfig, Identity
from plughost_auth._issuer import Issuer, peek
from plughost_auth._keys import IssuerUnavailable
from plughost_auth._tokens import TokenCache

MAX_TOKEN = 16 * 1024
"""Bytes of a token that anybody looks at."""
MAX_ASKED = 64
"""Questions to an introspection endpoint at once; whoever invents tokens cannot make the host flood it."""
_PASSING = frozenset({Reason.KEY, Reason.NOT_YET_VALID})
"""What may be otherwise a moment later."""

Report = Callable[[str], None]
"""Told the issuer of a token that was verified."""


class Authenticator:
    """Says who bears a token. A token that was verified lately costs a digest and a look into a table."""

    def __init__(self, config: AuthConfig, issuers: Iterable[Issuer], now: Callable[[], float], report: Report) -> None:
        self.issuers: Mapping[str, Issuer] = {issuer.config.issuer: issuer for issuer in issuers}
        self._asked = next((issuer for issuer in self.issuers.values() if issuer.config.introspection), None)
        self._now = now
        self._report = report
        self._asking: dict[bytes, asyncio.Task[Verified]] = {}
        self.bind(config)

    def bind(self, config: AuthConfig) -> None:
        """Take the keys, tokens and limits of a config, and forget what was verified under another."""
        self._fixed = dict(_fixed(config))
        self.cache = TokenCache(size=config.cache_size, keep=config.cache_for, now=self._now)

    def known(self, digest: bytes) -> Verified | None:
        """Who bears the token of this digest, if that needs no work."""
        found = self._fixed.get(digest)
        if found is not None and self._now() < found.expires:
            return found
        return self.cache.get(digest)

    async def verify(self, token: bytes, digest: bytes) -> Verified:
        """Who bears a token that nobody knows yet.

        Raises:
            RejectedToken: Nobody whom it proves.
            IssuerUnavailable: Its issuer cannot be asked.
        """
        if digest in self._fixed:
            raise RejectedToken(Reason.EXPIRED)
        if len(token) > MAX_TOKEN:
            raise RejectedToken(Reason.MALFORMED)
        if (reason := self.cache.why_bad(digest)) is not None:
            raise RejectedToken(reason)
        try:
            who, verified = await self._verify(token.decode("latin-1"), digest)
        except RejectedToken as error:
            if error.reason not in _PASSING:
                self.cache.keep_bad(digest, error.reason)
            raise
        self._report(who)
        self.cache.keep(digest, verified)
        return verified

    async def aclose(self) -> None:
        """End the questions under way, and the fetches."""
        asking = [*self._asking.values()]
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
        for issuer in self.issuers.values():
            await issuer.keys.aclose()

    async def _verify(self, token: str, digest: bytes) -> tuple[str, Verified]:
        parts = peek(token)
        if parts is None:
            if self._asked is None or token.startswith(PREFIX):  # a key is no issuer's to see
                raise RejectedToken(Reason.UNKNOWN)
            return self._asked.name, await self._ask(self._asked, token, digest)
        header, claims = parts
        named = claims.get("iss")
        issuer = self.issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise RejectedToken(Reason.ISSUER)
        return issuer.name, await issuer.verify(token, header)

    async def _ask(self, issuer: Issuer, token: str, digest: bytes) -> Verified:
        """Ask the issuer; once, however many calls come with the token at the same time."""
        task = self._asking.get(digest)
        if task is None:
            if len(self._asking) >= MAX_ASKED:
                raise IssuerUnavailable(f"{MAX_ASKED} tokens are being asked about")
            task = asyncio.get_running_loop().create_task(issuer.introspect(token), context=Context())
            self._asking[digest] = task
            task.add_done_callback(lambda task: self._answered(digest, task))
        return await asyncio.shield(task)

    def _answered(self, digest: bytes, task: asyncio.Task[Verified]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody does any more, nobody needs to hear of it


def digest_of(token: bytes) -> bytes:
    """What a token is known by. It needs no salt: what it is for has 128 bits of randomness, or more."""
    return sha256(token).digest()


def principal_of(name: str, identity: Identity, issuer: str) -> Principal:
    """The principal that a config describes. `issuer` is no URL, so that nobody's token is ever the same principal."""
    return Principal(
        identity.subject or name,
        issuer=issuer,
        tenant=identity.tenant,
        roles=identity.roles,
        scopes=frozenset(identity.scopes),
    )


def _fixed(config: AuthConfig) -> Iterable[tuple[bytes, Verified]]:
    for name, key in config.keys.items():
        yield bytes.fromhex(key.sha256), identify(principal_of(name, key, "key"), key.expires_at, f"key:{name}")
    for name, static in config.tokens.items():
        digest = digest_of(static.token.get_secret_value().encode())
        yield digest, identify(principal_of(name, static, "token"), None, f"token:{name}")
