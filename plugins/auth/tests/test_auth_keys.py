"""The keys of an issuer: when they are fetched, and how long they are used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from plughost_auth._keys import IssuerUnavailable, KeySet, KeyTimes, parse_keys
from plughost_testing import VirtualClock
from signing import Signer, jwks

pytestmark = pytest.mark.anyio

TIMES = KeyTimes(refresh_every=600, cooldown=30, stale_for=3600)
ALGORITHMS = ("RS256", "ES256", "EdDSA")
RSA = Signer("r", "RS256")


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Server:
    """An issuer that can rotate its keys, go away, and counts how often it is asked."""

    def __init__(self, clock: VirtualClock, *signers: Signer) -> None:
        self.signers = signers
        self.asked = 0
        self.away = False
        self.removed = 0
        self.outcomes: list[str | None] = []
        self._clock = clock
        self.keys = KeySet(
            self.fetch,
            clock,
            algorithms=ALGORITHMS,
            times=TIMES,
            on_removed=self.note,
            on_outcome=self.outcomes.append,
        )

    def note(self) -> None:
        self.removed += 1

    async def fetch(self) -> bytes:
        self.asked += 1
        await self._clock.sleep(0.5)
        if self.away:
            raise OSError("no route")
        return jwks(*self.signers)


@pytest.fixture
def serve(virtual_clock: VirtualClock) -> Callable[..., Server]:
    return lambda *signers: Server(virtual_clock, *(signers or (Signer("a"),)))


async def test_first_token_waits_for_keys_once(serve: Callable[..., Server]) -> None:
    """Calls that come before there are keys wait for one fetch, all of them for the same (A7)."""
    server = serve()
    found = []

    async def look() -> None:
        found.append(await server.keys.find("a", "ES256"))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(look)
    assert len(found) == 50
    assert None not in found
    assert server.asked == 1


async def test_rotation(serve: Callable[..., Server]) -> None:
    """A key that nobody knew yet is fetched when the first token names it; a key that is gone is told of."""
    server = serve()
    await server.keys.refresh()
    server.signers = (Signer("a2"),)
    assert await server.keys.find("a2", "ES256") is not None
    assert (server.asked, server.removed) == (2, 1)
    assert await server.keys.find("a", "ES256") is None


async def test_same_id_other_key(serve: Callable[..., Server]) -> None:
    """A key that is exchanged under its old id counts as removed, too."""
    server = serve()
    await server.keys.refresh()
    server.signers = (Signer("a"),)
    await server.keys.refresh()
    assert server.removed == 1


async def test_unknown_keys_are_no_storm(serve: Callable[..., Server], virtual_clock: VirtualClock) -> None:
    """A thousand tokens with invented key ids lead to one fetch within the cooldown (A7)."""
    server = serve()
    await server.keys.refresh()
    for number in range(1000):
        assert await server.keys.find(f"invented-{number}", "ES256") is None
    assert server.asked == 2
    await virtual_clock.sleep(30)
    assert await server.keys.find("invented", "ES256") is None
    assert server.asked == 3


async def test_outage_keeps_the_last_good_keys_for_a_bounded_time(
    serve: Callable[..., Server], virtual_clock: VirtualClock
) -> None:
    """While the issuer is away its last keys are used, up to a limit; then nothing can be said of its tokens (A7)."""
    server = serve()
    await server.keys.refresh()
    server.away = True
    await server.keys.refresh()
    assert server.keys.problem == "OSError: no route"
    await virtual_clock.sleep(4100)
    assert await server.keys.find("a", "ES256") is not None
    await virtual_clock.sleep(101)
    with pytest.raises(IssuerUnavailable, match="no route"):
        await server.keys.find("a", "ES256")
    server.away = False
    await server.keys.refresh()
    assert await server.keys.find("a", "ES256") is not None
    assert server.outcomes == [None, "OSError: no route", "OSError: no route", None]


async def test_unknown_key_during_an_outage(serve: Callable[..., Server]) -> None:
    """A key that might be new cannot be judged while the issuer is away: neither right nor wrong."""
    server = serve()
    await server.keys.refresh()
    server.away = True
    with pytest.raises(IssuerUnavailable):
        await server.keys.find("a2", "ES256")
    assert await server.keys.find("a", "ES256") is not None


async def test_who_gives_up_takes_nobody_along(serve: Callable[..., Server]) -> None:
    """A caller that is cancelled while it waits does not cancel the fetch that others wait for."""
    server = serve()
    with anyio.move_on_after(0.1):
        await server.keys.find("a", "ES256")
    assert await server.keys.find("a", "ES256") is not None
    assert server.asked == 1


async def test_token_without_key_id(serve: Callable[..., Server]) -> None:
    """Without an id the only key of the algorithm is meant; with two of them none is."""
    server = serve(Signer("a"), Signer("r", "RS256"))
    assert await server.keys.find(None, "ES256") is not None
    server = serve(Signer("a"), Signer("b"))
    assert await server.keys.find(None, "ES256") is None


async def test_key_of_another_algorithm(serve: Callable[..., Server]) -> None:
    """A key is found for its own algorithm only: an RSA key verifies no other signature (A7)."""
    server = serve(Signer("r", "RS256"))
    assert await server.keys.find("r", "RS256") is not None
    assert await server.keys.find("r", "ES256") is None


def test_unusable_keys_are_left_out() -> None:
    """Shared secrets, keys for encryption, private, weak and unknown ones are not taken, nor keep others out (A7)."""
    good = Signer("good")
    more = [
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I", "alg": "HS256"},
        {**Signer("enc").jwk, "use": "enc"},
        {**Signer("ops").jwk, "key_ops": ["sign"]},
        Signer("weak", "RS256", bits=1024).jwk,
        Signer("told", "RS256").private_jwk,
        Signer("told-too").private_jwk,
        {**Signer("other-curve").jwk, "alg": "ES384"},
        {"kty": "RSA", "kid": "unsigned", "alg": "none"},
        {"kty": "new"},
        {"kty": ["RSA"]},
        {**Signer("a").jwk, "kid": ["a"]},
        {"kty": "RSA", "kid": "broken", "n": 7, "e": None},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off-curve"},
        {},
    ]
    assert list(parse_keys(jwks(good, more=more), ALGORITHMS)) == [("good", "ES256")]


def test_a_key_that_names_no_algorithm_is_for_each_that_fits() -> None:
    """`alg` may be absent (RFC 7517): the key's type and curve say what it can sign."""
    members = [{key: value for key, value in signer.jwk.items() if key != "alg"} for signer in (RSA, Signer("e"))]
    accepted = ("RS512", "PS256", "ES256", "ES384")
    found = parse_keys(json.dumps({"keys": members}).encode(), accepted)
    assert list(found) == [("r", "RS512"), ("r", "PS256"), ("e", "ES256")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"[]",
        b"{}",
        b'{"keys": 7}',
        b'{"keys": []}',
        b'{"keys": [7]}',
        b"[" * 100_000,
        b'{"keys":[{"kty":[]}]}',
    ],
)
def test_what_is_no_key_set(body: bytes) -> None:
    """Anything else than a JWK set with a usable key is refused, whatever it is."""
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own text
        parse_keys(body, ALGORITHMS)


def test_too_many_keys() -> None:
    """A set of more than a hundred keys is refused."""
    with pytest.raises(ValueError, match="at most 100"):
        parse_keys(json.dumps({"keys": [Signer("a").jwk] * 101}).encode(), ALGORITHMS)
