"""The config: issuers, keys and tokens, scopes, and whom each of them is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from plughost import Duration, PluginConfig
from pydantic import AfterValidator, Field, SecretStr, model_validator

from plughost_auth._claims import ClaimNames


def is_loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_URL = re.compile(r"[\x21\x23-\x5B\x5D\x5F\x61-\x7A\x7E]+")
"""What stands in a URL (RFC 3986), and so in a quoted string of `WWW-Authenticate`."""


def _secure(url: str) -> str:
    parts = urlsplit(url)
    local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or local):
        raise ValueError(f"{url!r} is no https URL; http is for loopback addresses only")
    if parts.fragment or parts.query or parts.username or parts.password:
        raise ValueError(f"{url!r} has credentials, a query or a fragment; write the URL without them")
    if not _URL.fullmatch(url):
        raise ValueError(f"{url!r} has characters that no header can hold; percent-encode them")
    return url


SecureURL = Annotated[str, AfterValidator(_secure)]
"""An https URL; or http on a loopback address, for development."""

Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5B\x5D-\x7E]+$")]
"""A scope, as RFC 6749 writes one: printable, no space, no quotation mark, no backslash."""

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""A signature with a public key; none that needs a shared secret (A7)."""


class Introspection(PluginConfig):
    """Where opaque tokens are asked about (RFC 7662), and as whom."""

    client_id: str
    """What the host is called at the authorization server."""
    client_secret: SecretStr
    """Its secret there."""
    url: SecureURL | None = None
    """The introspection endpoint; from the issuer's metadata, if absent."""


class IssuerConfig(PluginConfig):
    """An authorization server whose tokens are accepted."""

    issuer: SecureURL
    """Its identifier, exactly as `iss` has it (A6)."""
    jwks_url: SecureURL | None = None
    """Where its keys are; from its metadata (RFC 8414, OpenID Connect Discovery), if absent."""
    audience: tuple[str, ...] = ()
    """What `aud` may name; `resource`, if empty (A3)."""
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256", "EdDSA"), min_length=1)
    """Signatures that are accepted."""
    types: tuple[str, ...] = Field(default=("at+jwt",), min_length=1)
    """What `typ` may be. Add `JWT` for a server that does not follow RFC 9068, such as Keycloak, Auth0 or Entra ID."""
    subject_claim: str = "sub"
    """Claim that is the principal's subject. Dots lead into objects, for this key and the next three."""
    tenant_claim: str | None = None
    """Claim that is the tenant."""
    roles_claim: str | None = None
    """Claim that holds the roles: a list, or a string with spaces."""
    scope_claim: str = "scope"
    """Claim that holds the scopes: a list, or a string with spaces."""
    introspection: Introspection | None = None
    """Ask this issuer about tokens that are no JWT."""

    @property
    def claim_names(self) -> ClaimNames:
        return ClaimNames(self.subject_claim, self.tenant_claim, self.roles_claim, self.scope_claim)


class Identity(PluginConfig):
    """Whom a caller is taken for."""

    subject: str | None = Field(default=None, min_length=1)
    """The principal's subject."""
    tenant: str | None = None
    """The principal's tenant."""
    roles: frozenset[str] = frozenset()
    """The principal's roles."""
    scopes: frozenset[Scope] = frozenset()
    """The principal's scopes."""


class KeyConfig(Identity):
    """An API key, as its digest. The subject is the key's name, unless it is given."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the key, from `plughost auth new-key`."""
    expires: datetime | None = None
    """When it ends; a date without a zone is in UTC."""

    @property
    def expires_at(self) -> float | None:
        if self.expires is None:
            return None
        return (self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)).timestamp()


class TokenConfig(Identity):
    """A static token, for development on one machine. The subject is the token's name, unless it is given."""

    token: SecretStr = Field(min_length=16)
    """The token, from `${ENV}` or `${file:PATH}`."""


class AuthConfig(PluginConfig):
    """The `[plugins.auth]` table. It has no `fail_mode`: who cannot be authenticated is not let in."""

    resource: SecureURL | None = None
    """URL of the MCP endpoint as clients know it, and the audience of their tokens; from `listen`, on loopback only."""
    issuers: Mapping[str, IssuerConfig] = Field(default_factory=dict)
    """Authorization servers by a name of your own."""
    keys: Mapping[str, KeyConfig] = Field(default_factory=dict)
    """API keys by name."""
    tokens: Mapping[str, TokenConfig] = Field(default_factory=dict)
    """Static tokens by name; refused where the host listens beyond loopback, or has `allowed_hosts`."""
    local: Identity = Identity()
    """Who calls over stdio: the login of this process, unless `subject` is given. Scopes are not asked of him."""
    required_scopes: tuple[Scope, ...] = ()
    """Scopes that every request needs."""
    scopes: Mapping[str, tuple[Scope, ...]] = Field(default_factory=dict)
    """Glob on tool, prompt or resource URI → the scopes that it needs besides; all globs that fit add up."""
    cache_for: Duration = 60.0
    """How long a verified token is known, at most; then it is verified again."""
    cache_size: int = Field(default=10_000, gt=0)
    """How many verified tokens are known."""
    leeway: Duration = Field(default=10.0, le=300)
    """By how much clocks may differ."""
    refresh_every: Duration = Field(default=600.0, ge=10)
    """How often keys are fetched in the background."""
    refresh_cooldown: Duration = Field(default=30.0, ge=1)
    """How long an unknown key, or a failure, leads to no other fetch."""
    stale_for: Duration = Field(default=86400.0, ge=0)
    """How long the last good keys are used while their issuer is away; then its tokens are answered 503."""
    timeout: Duration = Field(default=5.0, gt=0)
    """How long an authorization server may take."""
    mode: Literal["enforce", "observe"] = "enforce"
    """`observe` logs and counts what would have been refused, and refuses nothing."""

    @model_validator(mode="after")
    def _check(self) -> AuthConfig:
        if not (self.issuers or self.keys or self.tokens):
            return self
        named = [issuer.issuer for issuer in self.issuers.values()]
        if len(set(named)) < len(named):
            raise ValueError("two of issuers have the same issuer; give one all of its keys")
        asked = [name for name, issuer in self.issuers.items() if issuer.introspection is not None]
        if len(asked) > 1:
            raise ValueError(
                f"{' and '.join(asked)} have introspection; an opaque token does not tell its issuer, and no "
                "server may be shown the tokens of another: leave one"
            )
        digests = [key.sha256 for key in self.keys.values()]
        if len(set(digests)) < len(digests):
            raise ValueError("two of keys have the same sha256; make a key for each with `plughost auth new-key`")
        return self
