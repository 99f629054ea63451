"""What an authorization server has: a key, and tokens signed with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from jwt.algorithms import get_default_algorithms

ISSUER = "https://login.example"
RESOURCE = "https://mcp.example/mcp"


@cache
def rsa(bits: int, number: int) -> Any:
    """An RSA key; they are slow to make, so each is made once."""
    del number
    return generate_rsa(65537, bits)


class Signer:
    """A private key with its id; signs tokens that are right unless told otherwise."""

    def __init__(
        self, kid: str | None = "key-1", algorithm: str = "ES256", *, number: int = 0, bits: int = 2048
    ) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any
        if algorithm == "EdDSA":
            self.private = Ed25519PrivateKey.generate()
        elif algorithm.startswith("ES"):
            self.private = generate_ec(SECP256R1())
        else:
            self.private = rsa(bits, number)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key."""
        public: dict[str, Any] = dict(
            get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        )
        public.pop("key_ops", None)
        own = {"kid": self.kid} if self.kid is not None else {}
        return {**public, **own, "alg": self.algorithm, "use": "sig"}

    @property
    def private_jwk(self) -> dict[str, Any]:
        """The whole key, for a server that signs with it."""
        whole = dict(get_default_algorithms()[self.algorithm].to_jwk(self.private, as_dict=True))
        whole.pop("key_ops", None)
        return {**whole, **self.jwk}

    def claims(self, now: float, **changes: Any) -> dict[str, Any]:
        """Claims of an access token (RFC 9068); a change to `None` leaves one out."""
        right = {
            "iss": ISSUER,
            "aud": RESOURCE,
            "sub": "alice",
            "client_id": "editor",
            "iat": int(now),
            "exp": int(now) + 300,
            "scope": "notes:read",
        }
        return {name: value for name, value in {**right, **changes}.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        """A token with these claims; `header` changes it."""
        own = {"typ": "at+jwt", **({"kid": self.kid} if self.kid is not None else {}), **(header or {})}
        return jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers=own)

    def token(self, now: float, **changes: Any) -> str:
        """An access token."""
        return self.sign(self.claims(now, **changes))


def jwks(*signers: Signer, more: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """The JWK set of these keys."""
    return json.dumps({"keys": [*(signer.jwk for signer in signers), *more]}).encode()
