"""Encryption at rest for Plughost: AES-GCM envelopes, a key ring with rotation, a data key for each tenant."""

from __future__ import annotations

from plughost_encryption._box import Box
from plughost_encryption._config import EncryptionConfig
from plughost_encryption._keys import Master, new_key
from plughost_encryption._plugin import EncryptionPlugin

__all__ = ["Box", "EncryptionConfig", "EncryptionPlugin", "Master", "new_key"]
