"""The box that plugins seal with: envelopes under a key ring.

What is sealed is

    version (1) | key id (8) | salt (16) | nonce (12) | ciphertext | tag (16)

under AES-256-GCM. What stands before the nonce, and the caller's context, is authenticated too. The key id names a key
of the ring, or the data key of a tenant. The key that encrypts is derived from that one and the salt. Each process
draws its own salts, a new one after `MOST` messages: so no key sees 2^32 random nonces, beyond which NIST SP 800-38D
does not go, however many processes share a ring and however seldom it is rotated.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from plughost import KeyGoneError, SealError

from plughost_encryption._data_keys import DataKeys
from plughost_encryption._keys import ID, NONCE, Master, derive

K = TypeVar("K")
V = TypeVar("V")

VERSION = b"\x01"
SALT = 16
HEAD = len(VERSION) + ID + SALT
OVERHEAD = HEAD + NONCE + 16
MOST = 2**31
"""Messages under one derived key."""
REMEMBERED = 4096
"""Derived keys that are remembered, for each direction."""


class _Line:
    """What one derived key has left to encrypt."""

    __slots__ = ("aead", "head", "left")

    def __init__(self, key_id: bytes, root: bytes) -> None:
        salt = os.urandom(SALT)
        self.head = VERSION + key_id + salt
        self.aead = _aead(root, salt)
        self.left = MOST


class Box:
    """A `plughost.SecretBox`. From any thread.

    With `data_keys` each tenant has a key of its own, which can be dropped; otherwise the ring's keys are for all.
    """

    def __init__(
        self, masters: Sequence[Master], *, now: Callable[[], float], data_keys: DataKeys | None = None
    ) -> None:
        self.data_keys = data_keys
        self.sealed = 0
        self.unsealed = 0
        self.refused = 0
        """Messages that were altered, moved to another context, or never sealed."""
        self.gone = 0
        """Messages whose key is gone."""
        self._now = now
        self._closed = False
        self._lock = threading.Lock()
        self._sealing: dict[str, _Line] = {}
        self._unsealing: dict[bytes, AESGCM] = {}
        self.use(masters)

    def use(self, masters: Sequence[Master]) -> None:
        """Seal by the first of these keys from now on, and unseal by all.

        Raises:
            SealError: A data key needs another one. Nothing has changed.
        """
        with self._lock:
            if self.data_keys is not None:
                self.data_keys.use(masters, self._now())
            self.masters = tuple(masters)
            self._forget()

    def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
        """Encrypt for the place that `context` names, with the key of a tenant if the data is a tenant's.

        Raises:
            SealError: The data keys cannot be used.
        """
        owner = tenant or ""
        with self._lock:
            self._notice()
            line = self._sealing.get(owner)
            if line is None or not line.left:
                line = _remember(self._sealing, owner, _Line(*self._key_for(owner)))
            line.left -= 1
            self.sealed += 1
        nonce = os.urandom(NONCE)
        return b"%b%b%b" % (line.head, nonce, line.aead.encrypt(nonce, plaintext, line.head + context))

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        """What was sealed for the same context.

        Raises:
            KeyGoneError: The key is gone: its tenant was dropped, or it left the ring too early.
            SealError: It was altered, sealed for another context, or never sealed; or the data keys cannot be used.
        """
        head = bytes(sealed[:HEAD])
        if len(sealed) < OVERHEAD or head[:1] != VERSION:
            self.refused += 1
            raise SealError("it was not sealed by this version")
        with self._lock:
            self._notice()
            aead = self._unsealing.get(head)
            if aead is None:
                aead = _remember(self._unsealing, head, self._aead_of(head))
        try:
            plaintext = aead.decrypt(sealed[HEAD : HEAD + NONCE], sealed[HEAD + NONCE :], head + context)
        except InvalidTag:
            self.refused += 1
            raise SealError("it was altered, or sealed for another context") from None
        self.unsealed += 1
        return plaintext

    def drop(self, tenant: str) -> bool:
        """Forget the key of a tenant for ever; what was sealed with it stays unreadable. Says whether there was one.

        Raises:
            SealError: There are no data keys, or they cannot be used.
        """
        with self._lock:
            if self.data_keys is None:
                raise SealError("the keys of the ring are for all tenants; set data_keys, to drop those of one")
            self._forget()
            return self.data_keys.drop(tenant)

    def data_key_count(self) -> int | None:
        """How many data keys there are; `None` without a file of them.

        Raises:
            SealError: They cannot be used.
        """
        with self._lock:
            return None if self.data_keys is None else self.data_keys.count()

    def describe(self, tenants: int) -> dict[str, Any]:
        """What there is, as JSON: the ring, and the data keys made last. No secrets.

        Raises:
            SealError: The data keys cannot be used.
        """
        with self._lock:
            files, now = self.data_keys, self._now()
            ring = [
                {
                    "id": master.id.hex(),
                    "seals": master is self.masters[0],
                    "age_days": None if files is None else _days(now - files.since(master)),
                }
                for master in self.masters
            ]
            if files is None:
                return {"ring": ring, "data_keys": None}
            made = [
                {"tenant": tenant, "id": key_id.hex(), "age_days": _days(now - created)}
                for tenant, key_id, created in files.newest(tenants)
            ]
            return {"ring": ring, "data_keys": {"file": str(files.path), "count": files.count(), "newest": made}}

    def close(self) -> None:
        """Forget all keys."""
        with self._lock:
            self._closed = True
            self.masters = ()
            self._forget()
            if self.data_keys is not None:
                self.data_keys.close()

    def _notice(self) -> None:
        """Forget what another process may have dropped."""
        if self._closed:
            raise SealError("the box is closed; its plugin was taken out")
        if self.data_keys is not None and self.data_keys.changed():
            self._forget()

    def _forget(self) -> None:
        self._sealing.clear()
        self._unsealing.clear()

    def _key_for(self, owner: str) -> tuple[bytes, bytes]:
        if self.data_keys is not None:
            return self.data_keys.of(owner, self._now())
        return self.masters[0].id, self.masters[0].root

    def _aead_of(self, head: bytes) -> AESGCM:
        key_id, salt = head[1 : 1 + ID], head[1 + ID :]
        root = next((master.root for master in self.masters if master.id == key_id), None)
        if root is None and self.data_keys is not None:
            root = self.data_keys.find(key_id)
        if root is None:
            self.gone += 1
            raise KeyGoneError(f"the key {key_id.hex()} is gone: its tenant was dropped, or it left the ring too early")
        return _aead(root, salt)

    def __repr__(self) -> str:
        return f"<Box of {len(self.masters)} keys>"


def _days(seconds: float) -> float:
    return round(seconds / 86_400, 2)


def _aead(root: bytes, salt: bytes) -> AESGCM:
    return AESGCM(derive(root, b"message", salt=salt))


def _remember(known: dict[K, V], key: K, value: V) -> V:
    """Keep a value, and give up the one kept longest if there are too many."""
    if len(known) >= REMEMBERED:
        del known[next(iter(known))]
    known[key] = value
    return value
