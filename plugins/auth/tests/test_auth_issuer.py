"""Tokens as attackers write them, and what one issuer says of each."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from plughost_auth import IssuerConfig
from plughost_auth._authenticator import MAX_ASKED, Authenticator, digest_of
from plughost_auth._claims import Reason, RejectedToken, Verified
from plughost_auth._config import AuthConfig
from plughost_auth._fetch import Fetcher, FetchError
from plughost_auth._issuer import Issuer, metadata_urls, peek
from plughost_auth._keys import IssuerUnavailable, KeyTimes
from plughost_testing import VirtualClock, run
from signing import ISSUER, RESOURCE, Signer, jwks

pytestmark = pytest.mark.anyio

ES, RS, ED = Signer("es"), Signer("rs", "RS256"), Signer("ed", "EdDSA")


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Documents(Fetcher):
    """Answers with the documents it was given; the others are not found."""

    def __init__(self, documents: Mapping[str, Any], clock: VirtualClock) -> None:
        super().__init__(timeout=5)
        self.documents = dict(documents)
        self.asked: list[str] = []
        self.forms: list[Mapping[str, str]] = []
        self._clock = clock

    async def get(self, url: str, *, trusted: str) -> bytes:
        self.asked.append(url)
        if url not in self.documents:
            raise FetchError(f"GET {url}: answered 404")
        found = self.documents[url]
        return found if isinstance(found, bytes) else json.dumps(found).encode()

    async def post(self, url: str, form: Mapping[str, str], credentials: tuple[str, str], *, trusted: str) -> bytes:
        self.forms.append(form)
        await self._clock.sleep(0.1)
        return await self.get(url, trusted=trusted)


def issuer_of(documents: Documents, clock: VirtualClock, name: str = "main", **config: Any) -> Issuer:
    return Issuer(
        name,
        IssuerConfig.model_validate({"issuer": ISSUER, **config}),
        documents,
        clock,
        resource=RESOURCE,
        leeway=0,
        times=KeyTimes(),
        on_removed=lambda: None,
        on_outcome=lambda _: None,
    )


METADATA = {
    f"{ISSUER}/.well-known/oauth-authorization-server": {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/keys",
        "introspection_endpoint": f"{ISSUER}/introspect",
    },
    f"{ISSUER}/keys": jwks(ES, RS, ED),
}


def authenticator(clock: VirtualClock, *issuers: Issuer, **config: Any) -> Authenticator:
    return Authenticator(AuthConfig.model_validate(config), issuers, clock.time, lambda _: None)


async def verify(found: Authenticator, token: str) -> Verified:
    raw = token.encode()
    return found.known(digest_of(raw)) or await found.verify(raw, digest_of(raw))


async def refused(found: Authenticator, token: str) -> Reason | None:
    try:
        await verify(found, token)
    except RejectedToken as error:
        return error.reason
    return None


@pytest.mark.parametrize("signer", [ES, RS, ED], ids=lambda signer: signer.algorithm)
async def test_right_token(signer: Signer, virtual_clock: VirtualClock) -> None:
    """Tokens signed with RS256, ES256 and EdDSA prove their subject; a second look asks nobody."""
    documents = Documents(METADATA, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock))
    token = signer.token(virtual_clock.time())
    assert (await verify(found, token)).principal.subject == "alice"
    asked = len(documents.asked)
    assert await verify(found, token) is await verify(found, token)
    assert len(documents.asked) == asked


def hs256(key: bytes, claims: Mapping[str, Any], kid: str) -> str:
    """A token that takes a public key for a shared secret."""
    header = {"alg": "HS256", "typ": "at+jwt", "kid": kid}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


async def test_attacks_on_the_signature(virtual_clock: VirtualClock) -> None:
    """`alg: none`, a public key as shared secret, keys in the token, another's key, a changed claim: refused (A7)."""
    found = authenticator(virtual_clock, issuer_of(Documents(METADATA, virtual_clock), virtual_clock))
    now = virtual_clock.time()
    claims = ES.claims(now)
    pem = RS.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    none = jwt.encode(claims, "", algorithm="none", headers={"typ": "at+jwt", "kid": "es"})
    mallory = Signer("es")
    head, body, tail = ES.token(now).split(".")
    admin = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "root"}).encode()).rstrip(b"=").decode()
    attacks = {
        none: Reason.ALGORITHM,
        hs256(pem, claims, "rs"): Reason.ALGORITHM,
        hs256(json.dumps(RS.jwk).encode(), claims, "rs"): Reason.ALGORITHM,
        mallory.token(now): Reason.SIGNATURE,
        mallory.sign(claims, {"jwk": mallory.jwk}): Reason.SIGNATURE,
        mallory.sign(claims, {"jku": "https://mallory.example/keys", "kid": "m"}): Reason.KEY,
        Signer("unknown").token(now): Reason.KEY,
        Signer("../../dev/null").token(now): Reason.KEY,
        RS.sign(claims, {"kid": "es"}): Reason.KEY,
        f"{head}.{admin}.{tail}": Reason.SIGNATURE,
        f"{head}.{body}.": Reason.SIGNATURE,
        ES.sign(claims, {"crit": ["exp"], "exp": 1}): Reason.MALFORMED,
    }
    assert {token: await refused(found, token) for token in attacks} == attacks


async def test_key_location_in_a_token_is_not_followed(virtual_clock: VirtualClock) -> None:
    """Nothing is fetched from a URL that a token names (S1)."""
    documents = Documents(METADATA, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock))
    claims = ES.claims(virtual_clock.time())
    where = "https://mallory.example/keys"
    await refused(found, ES.sign(claims, {"jku": where, "x5u": where, "kid": "m"}))
    assert not [url for url in documents.asked if not url.startswith(ISSUER)]


@pytest.mark.parametrize("kind", ["JWT", "id_token+jwt", "dpop+jwt", "logout+jwt", "", None])
async def test_other_types(kind: str | None, virtual_clock: VirtualClock) -> None:
    """A token of another type than an access token is refused, though the issuer signed it (A7)."""
    found = authenticator(virtual_clock, issuer_of(Documents(METADATA, virtual_clock), virtual_clock))
    token = ES.sign(ES.claims(virtual_clock.time()), {"typ": kind})
    assert await refused(found, token) is Reason.TYPE


async def test_type_is_a_media_type(virtual_clock: VirtualClock) -> None:
    """`application/at+JWT` is the same type; `JWT` is taken where the config says so."""
    found = authenticator(
        virtual_clock, issuer_of(Documents(METADATA, virtual_clock), virtual_clock, types=["at+jwt", "JWT"])
    )
    for kind in ("application/at+JWT", "jwt"):
        assert await refused(found, ES.sign(ES.claims(virtual_clock.time()), {"typ": kind})) is None


async def test_keys_are_per_issuer(virtual_clock: VirtualClock) -> None:
    """One issuer's key signs nothing for another, though both are accepted and its id is the same (A6)."""
    other_url, other = "https://other.example", Signer("es")
    documents = Documents(
        {
            **METADATA,
            f"{other_url}/.well-known/openid-configuration": {"issuer": other_url, "jwks_uri": f"{other_url}/keys"},
            f"{other_url}/keys": jwks(other),
        },
        virtual_clock,
    )
    found = authenticator(
        virtual_clock,
        issuer_of(documents, virtual_clock),
        issuer_of(documents, virtual_clock, "other", issuer=other_url),
    )
    now = virtual_clock.time()
    assert (await verify(found, other.token(now, iss=other_url))).principal.issuer == other_url
    assert await refused(found, other.token(now)) is Reason.SIGNATURE
    assert await refused(found, ES.token(now, iss=other_url)) is Reason.SIGNATURE
    assert await refused(found, ES.token(now, iss="https://third.example")) is Reason.ISSUER


async def test_metadata_of_another_issuer(virtual_clock: VirtualClock) -> None:
    """Metadata that names another issuer than the one it was fetched for is not used (A6)."""
    wrong = {f"{ISSUER}/.well-known/oauth-authorization-server": {"issuer": f"{ISSUER}/", "jwks_uri": f"{ISSUER}/keys"}}
    issuer = issuer_of(Documents({**METADATA, **wrong}, virtual_clock), virtual_clock)
    await issuer.keys.refresh()
    assert "another issuer" in (issuer.keys.problem or "")


def test_metadata_places() -> None:
    """The well-known paths of RFC 8414 and of OpenID Connect, for issuers with and without a path."""
    assert metadata_urls("https://a.example") == [
        "https://a.example/.well-known/oauth-authorization-server",
        "https://a.example/.well-known/openid-configuration",
    ]
    assert metadata_urls("https://a.example/realms/x") == [
        "https://a.example/.well-known/oauth-authorization-server/realms/x",
        "https://a.example/.well-known/openid-configuration/realms/x",
        "https://a.example/realms/x/.well-known/openid-configuration",
    ]


INTROSPECTED: Mapping[str, Any] = {"introspection": {"client_id": "host", "client_secret": "d4b1-not-a-placeholder"}}


def active(clock: VirtualClock, **changes: Any) -> dict[str, Any]:
    claims = {"active": True, "sub": "bob", "aud": RESOURCE, "exp": int(clock.time()) + 300, "scope": "notes:read"}
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


async def test_opaque_token(virtual_clock: VirtualClock) -> None:
    """An opaque token is asked about once, however many calls bring it at a time; the answer is remembered."""
    documents = Documents({**METADATA, f"{ISSUER}/introspect": active(virtual_clock)}, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock, **INTROSPECTED))
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(verify, found, "opaque-1")
    assert (await verify(found, "opaque-1")).principal.subject == "bob"
    assert documents.forms == [{"token": "opaque-1", "token_type_hint": "access_token"}]


async def test_api_keys_are_no_issuers_to_see(virtual_clock: VirtualClock) -> None:
    """An API key that is not known here is not shown to the issuer that is asked about opaque tokens."""
    documents = Documents({**METADATA, f"{ISSUER}/introspect": active(virtual_clock)}, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock, **INTROSPECTED))
    assert await refused(found, "plh_of-another-host") is Reason.UNKNOWN
    assert documents.forms == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"active": False}, Reason.INACTIVE),
        ({"active": "true"}, Reason.INACTIVE),
        ({"aud": None}, Reason.AUDIENCE),
        ({"aud": "https://other.example"}, Reason.AUDIENCE),
        ({"iss": "https://other.example"}, Reason.ISSUER),
        ({"exp": 1}, Reason.EXPIRED),
        ({"exp": None}, Reason.MALFORMED),
    ],
)
async def test_opaque_token_refused(changes: dict[str, Any], reason: Reason, virtual_clock: VirtualClock) -> None:
    """What an issuer says of an opaque token is held to the same rules as a JWT (A3, A6, A7)."""
    documents = Documents({**METADATA, f"{ISSUER}/introspect": active(virtual_clock, **changes)}, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock, **INTROSPECTED))
    assert await refused(found, "opaque-1") is reason
    assert await refused(found, "opaque-1") is reason
    assert len(documents.forms) == 1


async def test_invented_opaque_tokens_flood_nobody(virtual_clock: VirtualClock) -> None:
    """No more than a fixed number of questions are under way to an issuer; beyond it calls are told to come again."""
    documents = Documents({**METADATA, f"{ISSUER}/introspect": {"active": False}}, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock, **INTROSPECTED))
    told_to_wait = 0

    async def try_one(number: int) -> None:
        nonlocal told_to_wait
        try:
            await verify(found, f"invented-{number}")
        except IssuerUnavailable:
            told_to_wait += 1
        except RejectedToken:
            pass

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(try_one, number)
    assert len(documents.forms) == MAX_ASKED
    assert told_to_wait == 200 - MAX_ASKED


async def test_opaque_token_while_the_issuer_is_away(virtual_clock: VirtualClock) -> None:
    """Nothing can be said of an opaque token while its issuer is away, and nothing is remembered of it."""
    documents = Documents(METADATA, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock, **INTROSPECTED))
    with pytest.raises(IssuerUnavailable):
        await verify(found, "opaque-1")
    (issuer,) = found.issuers.values()
    assert "404" in (issuer.silence or "")
    documents.documents[f"{ISSUER}/introspect"] = active(virtual_clock)
    assert (await verify(found, "opaque-1")).principal.subject == "bob"
    assert issuer.silence is None


async def test_bad_token_is_verified_once(virtual_clock: VirtualClock) -> None:
    """A bad token is remembered as bad; but not one whose key may be known a moment later."""
    documents = Documents(METADATA, virtual_clock)
    found = authenticator(virtual_clock, issuer_of(documents, virtual_clock))
    bad, new = Signer("es").token(virtual_clock.time()), Signer("new")
    assert await refused(found, bad) is Reason.SIGNATURE
    assert found.cache.why_bad(digest_of(bad.encode())) is Reason.SIGNATURE
    token = new.token(virtual_clock.time())
    assert await refused(found, token) is Reason.KEY
    assert found.cache.why_bad(digest_of(token.encode())) is None
    documents.documents[f"{ISSUER}/keys"] = jwks(ES, new)
    await virtual_clock.sleep(30)
    assert await refused(found, token) is None


async def test_api_keys(virtual_clock: VirtualClock) -> None:
    """An API key is known by its digest until it expires; the config holds no key."""
    raw = "plh_0123456789abcdef"
    key = {"sha256": hashlib.sha256(raw.encode()).hexdigest(), "roles": ["ci"], "expires": "2100-01-01T00:00:00"}
    found = authenticator(virtual_clock, keys={"ci": key, "old": {**key, "sha256": "0" * 64}})
    who = (await verify(found, raw)).principal
    assert (who.subject, who.issuer) == ("ci", "key")
    assert (await verify(found, raw)).principal.roles == {"ci"}
    assert await refused(found, raw + "x") is Reason.UNKNOWN
    found.bind(AuthConfig.model_validate({"keys": {"ci": {**key, "expires": "1971-01-01"}}}))
    assert await refused(found, raw) is Reason.EXPIRED


@given(
    st.text(max_size=60)
    | st.from_regex(r"[A-Za-z0-9_-]{1,30}\.[A-Za-z0-9_-]{1,30}\.[A-Za-z0-9_-]{0,9}", fullmatch=True)
)
def test_no_token_does_harm(text: str) -> None:
    """Whatever is sent as a token, the answer is a refusal (A7)."""
    clock = VirtualClock()

    async def main() -> None:
        found = authenticator(clock, issuer_of(Documents(METADATA, clock), clock))
        assert await refused(found, text) in {Reason.UNKNOWN, Reason.MALFORMED, Reason.ISSUER}

    run(main, clock=clock)


def test_peek_proves_nothing_and_breaks_nothing() -> None:
    """What is no JWT is `None`; what looks like one and is broken is malformed."""
    assert peek("opaque") is None
    assert peek("a.b.c.d.e") is None
    with pytest.raises(RejectedToken):
        peek("e30.bm8.x")
