"""The keys that operators keep, and what is derived from them. HKDF (RFC 5869) over SHA-256, AES-256-GCM."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import pairwise

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ID = 8
"""Bytes of a key's id."""
NONCE = 12
SHORTEST = 32
"""Bytes that a key must have at least."""
FEWEST = 10
"""Different characters that a random text of that length has, whatever its alphabet."""
TELLTALES = (
    "changeme",
    "change-me",
    "change_me",
    "deadbeef",
    "do-not-use",
    "example",
    "insert",
    "password",
    "placeholder",
    "production",
    "replace",
    "secret",
    "testing",
    "your-",
    "your_",
    "yourkey",
)
"""Words that stand in texts which nobody drew at random."""


def new_key() -> str:
    """256 random bits, as text."""
    return secrets.token_urlsafe(32)


def derive(secret: bytes, purpose: bytes, *, length: int = 32, salt: bytes | None = None) -> bytes:
    """Another secret for a purpose; it says nothing about `secret`, nor about those for other purposes."""
    return HKDF(SHA256(), length, salt, b"plughost-encryption/1 " + purpose).derive(secret)


class Master:
    """A key of the ring: the root of data keys, or what wraps them. Its id may be shown."""

    __slots__ = ("_wrapper", "id", "root")

    def __init__(self, text: str) -> None:
        secret = text.encode()
        self.id = derive(secret, b"id", length=ID)
        self.root = derive(secret, b"data")
        self._wrapper = AESGCM(derive(secret, b"wrap"))

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Another key, encrypted."""
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._wrapper.encrypt(nonce, key, self.id + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The key that was wrapped.

        Raises:
            InvalidTag: It was not wrapped by this one, not in this context, or altered since.
        """
        return self._wrapper.decrypt(wrapped[:NONCE], wrapped[NONCE:], self.id + context)

    def __repr__(self) -> str:
        return f"<Master {self.id.hex()}>"


def ring(texts: Sequence[str]) -> tuple[Master, ...]:
    """The key ring, newest first. White space around a key, as the line end of a file, is no part of it.

    Raises:
        ValueError: There is none, one is weak (G3), or one is there twice. Names its place, never the key.
    """
    if not texts:
        raise ValueError("there is no key; make one with `plughost encryption new-key`")
    texts = [text.strip() for text in texts]
    for place, text in enumerate(texts):
        if (fault := _weakness(text)) is not None:
            raise ValueError(f"key {place + 1} {fault}; make one with `plughost encryption new-key`")
    masters = tuple(map(Master, texts))
    if len({master.id for master in masters}) < len(masters):
        raise ValueError("a key is there twice")
    return masters


def _weakness(text: str) -> str | None:
    if len(text.encode()) < SHORTEST:
        return f"is shorter than {SHORTEST} bytes"
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    counted_up = 2 * sum(step in (0, 1) for step in steps) > len(steps)
    if len(set(text)) < FEWEST or counted_up or text in (text + text)[1:-1]:
        return "is not random"
    if any(word in text.lower() for word in TELLTALES):
        return "is a placeholder, not a secret"
    return None
