"""Signatures of webhooks as the Standard Webhooks specification has them, version 1.0.0: symmetric, `v1`."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable

PREFIX = "whsec_"


def key_of(secret: str) -> bytes:
    """The key in a secret: base64 behind `whsec_`.

    Raises:
        binascii.Error: It is no base64.
    """
    return b64decode(secret.removeprefix(PREFIX), validate=True)


def signed_headers(keys: Iterable[bytes], webhook_id: str, seconds: float, body: str) -> dict[str, str]:
    """The headers that prove who sent a body, and when; one signature with each key."""
    timestamp = str(int(seconds))
    signed = f"{webhook_id}.{timestamp}.{body}".encode()
    signatures = (b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
