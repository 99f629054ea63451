"""One authorization server: its metadata, its keys, and what it says of tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import jwt
from jwt import PyJWS, PyJWTError
from plughost import Clock

from plughost_auth._claims import Expected, Reason, RejectedToken, Verified, verify_claims
from plughost_auth._config import IssuerConfig
from plughost_auth._fetch import Fetcher, FetchError
from plughost_auth._keys import IssuerUnavailable, KeySet, KeyTimes

_JWS = PyJWS()
_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*\Z", re.ASCII)
_UNVERIFIED: Any = {"verify_signature": False}


def peek(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Header and claims as the token has them, which proves nothing; `None` if it is no JWT.

    Raises:
        RejectedToken: It looks like one, and is broken.
    """
    if not _COMPACT.match(token):
        return None
    try:
        found = jwt.decode_complete(token, options=_UNVERIFIED)
    except (PyJWTError, ValueError, RecursionError):
        raise RejectedToken(Reason.MALFORMED) from None
    return found["header"], found["payload"]


class Issuer:
    """An authorization server, by its name in the config."""

    def __init__(
        self,
        name: str,
        config: IssuerConfig,
        fetcher: Fetcher,
        clock: Clock,
        *,
        resource: str,
        leeway: float,
        times: KeyTimes,
        on_removed: Callable[[], None],
        on_outcome: Callable[[str | None], None],
    ) -> None:
        self.name = name
        self.config = config
        self._fetcher = fetcher
        self._now = clock.time
        self._expected = Expected(config.issuer, config.audience or spellings(resource), config.claim_names, leeway)
        self._types = {_media_type(item) for item in config.types}
        self._metadata: Mapping[str, Any] | None = None
        self.silence: str | None = None
        """Why the last question about an opaque token got no answer, if so."""
        self.keys = KeySet(
            self._fetch_keys,
            clock,
            algorithms=config.algorithms,
            times=times,
            on_removed=on_removed,
            on_outcome=on_outcome,
        )

    async def verify(self, token: str, header: Mapping[str, Any]) -> Verified:
        """The bearer of a JWT of this issuer.

        Raises:
            RejectedToken: It proves nothing (A3, A6, A7).
            IssuerUnavailable: There are no keys to verify it with.
        """
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self.config.algorithms:
            raise RejectedToken(Reason.ALGORITHM)
        if not isinstance(kid, str | None) or "crit" in header:
            raise RejectedToken(Reason.MALFORMED)
        if _media_type(header.get("typ")) not in self._types:
            raise RejectedToken(Reason.TYPE)
        key = await self.keys.find(kid, algorithm)
        if key is None:
            raise RejectedToken(Reason.KEY)
        try:
            claims = json.loads(_JWS.decode(token, key, algorithms=[algorithm]))
        except (PyJWTError, ValueError):
            raise RejectedToken(Reason.SIGNATURE) from None
        return verify_claims(claims, self._expected, self._now())

    async def introspect(self, token: str) -> Verified:
        """The bearer of an opaque token, as this issuer says (RFC 7662).

        Raises:
            RejectedToken: It is not active, or not for here (A3).
            IssuerUnavailable: The issuer does not answer.
        """
        asked = self.config.introspection
        assert asked is not None
        try:
            url = asked.url or (await self._discover("introspection_endpoint"))["introspection_endpoint"]
            form = {"token": token, "token_type_hint": "access_token"}
            credentials = quote(asked.client_id, safe=""), quote(asked.client_secret.get_secret_value(), safe="")
            body = await self._fetcher.post(url, form, credentials, trusted=asked.url or self.config.issuer)
            claims = json.loads(body)
        except (FetchError, ValueError, RecursionError) as error:
            self.silence = str(error)
            raise IssuerUnavailable(self.silence) from error
        self.silence = None
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise RejectedToken(Reason.INACTIVE)
        issuer = {"iss": self.config.issuer}  # whom it was asked of, unless it says another
        return verify_claims({**issuer, **claims}, self._expected, self._now())

    async def _fetch_keys(self) -> bytes:
        url = self.config.jwks_url
        if url is not None:
            return await self._fetcher.get(url, trusted=url)
        self._metadata = None  # where the keys are may have changed, too
        url = (await self._discover("jwks_uri"))["jwks_uri"]
        return await self._fetcher.get(url, trusted=self.config.issuer)

    async def _discover(self, wanted: str) -> Mapping[str, Any]:
        """The issuer's metadata with the URL that is wanted in it (RFC 8414, OpenID Connect Discovery).

        Raises:
            FetchError: There is none, it is another issuer's, or lacks what is wanted.
        """
        if self._metadata is None:
            problems = []
            for url in metadata_urls(self.config.issuer):
                try:
                    found = json.loads(await self._fetcher.get(url, trusted=self.config.issuer))
                except (FetchError, ValueError, RecursionError) as error:
                    problems.append(str(error))
                    continue
                if not isinstance(found, dict) or found.get("issuer") != self.config.issuer:
                    raise FetchError(f"{url} is the metadata of another issuer than {self.config.issuer!r}")
                self._metadata = found
                break
            else:
                raise FetchError("; ".join(problems))
        if not isinstance(self._metadata.get(wanted), str):
            raise FetchError(f"the metadata of {self.config.issuer!r} has no {wanted}; write its URL into the config")
        return self._metadata


def spellings(resource: str) -> tuple[str, ...]:
    """A resource as tokens may name it: one without a path is the same with a slash, and clients write either."""
    lone = resource.rstrip("/")
    return (resource,) if urlsplit(lone).path else (lone, f"{lone}/")


def metadata_urls(issuer: str) -> list[str]:
    """Where the metadata of an issuer may be: RFC 8414, then OpenID Connect as RFC 8414 has it and as itself has it."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    places = [
        f"/.well-known/oauth-authorization-server{path}",
        f"/.well-known/openid-configuration{path}",
        f"{path}/.well-known/openid-configuration",
    ]
    return [urlunsplit((parts.scheme, parts.netloc, place, "", "")) for place in dict.fromkeys(places)]


def _media_type(value: object) -> str:
    """A `typ` without what RFC 7515 lets one leave out."""
    return value.lower().removeprefix("application/") if isinstance(value, str) else ""
