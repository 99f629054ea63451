"""The keys of `[plugins.encryption]`."""

from __future__ import annotations

from pathlib import Path

from plughost import Duration, PluginConfig
from pydantic import Field, SecretStr, field_validator, model_validator

from plughost_encryption._keys import ring


class EncryptionConfig(PluginConfig):
    """Where keys come from. There is no default: a secret that everybody knows is none (G3)."""

    keys: tuple[SecretStr, ...] = ()
    """The key ring, newest first: the first one seals, all unseal. At least 32 random bytes each, in any text form."""
    command: tuple[str, ...] = ()
    """Program and arguments that print the key ring instead, one key a line; no shell is involved."""
    command_timeout: Duration = Field(default=10.0, gt=0)
    """How long the command may take."""
    data_keys: Path | None = None
    """File of the tenants' data keys, made if it is missing; without it no tenant can be dropped alone."""
    rotate_after: Duration = Field(default=365 * 86_400.0, gt=0)
    """Age of the newest key from which on `show` and the log call for a new one; known where `data_keys` is set."""

    @field_validator("keys")
    @classmethod
    def _good_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if keys:
            ring([key.get_secret_value() for key in keys])
        return keys

    @model_validator(mode="after")
    def _one_source(self) -> EncryptionConfig:
        if bool(self.keys) == bool(self.command):
            raise ValueError("needs either keys or command; make a key with `plughost encryption new-key`")
        return self
