"""What a token says, checked against what it has to say, and who its bearer is then. Pure functions of the claims."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from plughost import Principal

LATEST = 1e12
"""Seconds since the epoch beyond which nothing is a time; milliseconds, for one, are not."""
OTHER_KINDS = frozenset({"id", "id_token", "refresh", "refresh_token", "offline", "logout"})
"""What tokens that are no access tokens say of themselves, as those of Keycloak, Cognito and Hydra do."""


class Reason(StrEnum):
    """Why a token is refused: the words of the metric, and what the client reads."""

    MISSING = "Authentication is required"
    MALFORMED = "The token is malformed"
    UNKNOWN = "The token is unknown"
    INACTIVE = "The token is not active"
    ISSUER = "The token is of an issuer that is not accepted here"
    ALGORITHM = "The token is signed with an algorithm that is not accepted here"
    TYPE = "The token is of another type than an access token"
    KEY = "The token is signed with an unknown key"
    SIGNATURE = "The token's signature is wrong"
    EXPIRED = "The token has expired"
    NOT_YET_VALID = "The token is not valid yet"
    AUDIENCE = "The token is for another resource"
    SUBJECT = "The token names no subject"
    BOUND = "The token is bound to a key of its client, and bearer tokens are all that is accepted here"


class RejectedToken(Exception):  # noqa: N818 - a verdict, not a mistake
    """Raised when a token proves nothing; the answer is 401."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason.value)


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Which claims make the principal; dots lead into objects."""

    subject: str = "sub"
    tenant: str | None = None
    roles: str | None = None
    scopes: str = "scope"


@dataclass(frozen=True, slots=True)
class Expected:
    """What claims have to say: the issuer exactly (A6), one of the audiences (A3), and the present time."""

    issuer: str
    audience: Collection[str]
    names: ClaimNames
    leeway: float = 0.0


@dataclass(frozen=True, slots=True)
class Verified:
    """Who somebody is, and until when, in seconds since the epoch."""

    principal: Principal
    expires: float
    user: AuthenticatedUser
    """The same for the SDK, which binds sessions and request state to it (H1, H2). It holds no token."""


def identify(principal: Principal, expires: float | None, client: str) -> Verified:
    """A principal in the host's words and in the SDK's."""
    # The token itself stays out: an in-process server that reads it could send it on (A4).
    token = AccessToken(
        token="",
        client_id=client,
        scopes=sorted(principal.scopes),
        expires_at=None if expires is None else int(expires),
        subject=principal.subject,
        claims={"iss": principal.issuer},
    )
    return Verified(principal, float("inf") if expires is None else expires, AuthenticatedUser(token))


def verify_claims(claims: Mapping[str, Any], expected: Expected, now: float) -> Verified:
    """The bearer of a token with these claims.

    Raises:
        RejectedToken: Issuer, audience, times or subject are not as they have to be, the token says that it is another
            than an access token, or it is bound to a key.
    """
    if claims.get("iss") != expected.issuer:
        raise RejectedToken(Reason.ISSUER)
    if not set(_strings(claims.get("aud"), split=False)) & set(expected.audience):
        raise RejectedToken(Reason.AUDIENCE)
    expires, begins = _time(claims.get("exp")), _time(claims.get("nbf", now))
    if now >= expires + expected.leeway:
        raise RejectedToken(Reason.EXPIRED)
    if now < begins - expected.leeway:
        raise RejectedToken(Reason.NOT_YET_VALID)
    if any(str(claims.get(name)).lower() in OTHER_KINDS for name in ("typ", "token_use", "token_type")):
        raise RejectedToken(Reason.TYPE)
    if claims.get("cnf") is not None:
        raise RejectedToken(Reason.BOUND)
    names = expected.names
    subject = claim(claims, names.subject)
    if not isinstance(subject, str) or not subject or not subject.isprintable():  # it stands in logs and keys
        raise RejectedToken(Reason.SUBJECT)
    tenant = claim(claims, names.tenant) if names.tenant else None
    principal = Principal(
        subject,
        issuer=expected.issuer,
        tenant=tenant if isinstance(tenant, str) and tenant else None,
        roles=frozenset(_strings(claim(claims, names.roles))) if names.roles else frozenset(),
        scopes=frozenset(_strings(claim(claims, names.scopes))),
        claims=MappingProxyType(dict(claims)),
    )
    client = claims.get("client_id") or claims.get("azp") or ""
    return identify(principal, expires + expected.leeway, client if isinstance(client, str) else "")


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name; or, where there is none, what its dots lead to. `None` if nothing is there.

    A whole name goes first, since names such as `https://example.com/roles` hold dots of their own.
    """
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _strings(value: Any, *, split: bool = True) -> Iterable[str]:
    if isinstance(value, str):
        return value.split() if split else (value,)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else ()


def _time(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -LATEST < value < LATEST:
        raise RejectedToken(Reason.MALFORMED)
    return value
