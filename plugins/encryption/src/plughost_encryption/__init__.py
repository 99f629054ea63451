"""Encryption at rest for Plughost: AES-GCM envelopes, a key ring with rotation, a data key for each tenant."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["EncryptionPlugin"]


class EncryptionPlugin(MCPPlugin[PluginConfig]):
    """Encryption at rest for Plughost: AES-GCM envelopes, a key ring with rotation, a data key for each tenant."""
