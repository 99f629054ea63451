"""What an operator can say."""

from __future__ import annotations

import binascii
from typing import Annotated
from urllib.parse import urlsplit

from plughost import Duration, PluginConfig, Size
from plughost_redis import StoreURL
from pydantic import AfterValidator, Field, SecretStr, model_validator

from plughost_bus._signature import key_of

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KEY_BYTES = range(24, 65)
"""How long the Standard Webhooks specification has keys."""


def _checked_secret(secret: SecretStr) -> SecretStr:
    try:
        fits = len(key_of(secret.get_secret_value())) in KEY_BYTES
    except (binascii.Error, ValueError):
        fits = False
    if not fits:
        raise ValueError("a secret is 'whsec_' and 24 to 64 random bytes in base64; make one: openssl rand -base64 32")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_checked_secret)]


class WebhookConfig(PluginConfig):
    """A `[plugins.bus.webhooks.NAME]` table: who is told of which events."""

    url: SecretStr
    """Where events are posted to: `https://` only (S1). Redacted in dumps, as many receivers have a token in it."""
    secrets: tuple[Secret, ...] = Field(min_length=1)
    """Keys that sign each delivery, newest first: `whsec_` and base64. Two of them while receivers change over."""
    events: tuple[str, ...] = (
        "provider.*",
        "breaker.*",
        "backend.*",
        "health.changed",
        "plugin.failed",
        "config.refused",
    )
    """Globs on the types of events."""
    allow_loopback: bool = False
    """Let `url` be `http://` if it is this machine's: for a sidecar, or a test."""
    timeout: Duration = Field(default=10.0, gt=0)
    """How long the receiver may take to answer."""
    attempts: int = Field(default=8, ge=1)
    """How often an event is posted at most."""
    backoff: Duration = Field(default=1.0, gt=0)
    """Wait after the first failure; it doubles with each, less a random share of up to half."""
    max_backoff: Duration = Field(default=60.0, gt=0)
    """The longest such wait. A receiver's `Retry-After` may ask for more, up to an hour."""
    queue: int = Field(default=1000, ge=1)
    """Events that wait at most; what comes then is a dead letter."""

    @model_validator(mode="after")
    def _is_safe(self) -> WebhookConfig:
        parts = urlsplit(self.url.get_secret_value())
        if parts.username is not None or parts.password is not None:
            raise ValueError("url holds credentials; deliveries are signed, so take them out")
        if parts.scheme == "https" and parts.hostname:
            return self
        if parts.scheme != "http" or parts.hostname not in LOOPBACK:
            raise ValueError("url is not https://; events tell what is wrong with a host, so they leave it encrypted")
        if not self.allow_loopback:
            raise ValueError("url is http://; if that is meant, set allow_loopback = true")
        return self


class BusConfig(PluginConfig):
    """The `[plugins.bus]` table."""

    url: StoreURL = StoreURL("memory://")
    """Where replicas meet: `redis://` or `valkey://`. `memory://` is for one process, and for webhooks alone."""
    relay: tuple[str, ...] = ()
    """Globs on the types of host events that plugins on other replicas are told too, as `replica.TYPE`."""
    max_watched: int = Field(default=1000, ge=0)
    """Resources of its clients that one replica asks the others to watch. Each can cost an upstream a subscription."""
    webhooks: dict[str, WebhookConfig] = Field(default_factory=dict)
    """Who is told of events, by name."""
    dead_letters: str = "plughost-bus-dead-letters.jsonl"
    """File for what could not be delivered, one JSON line each; relative to the configuration file."""
    max_dead_letters: Size = 10 * 2**20
    """Size at which that file is moved aside, and the one before it thrown away."""
    flush_timeout: Duration = 5.0
    """How long webhooks may go on when the plugin leaves; what is left then becomes dead letters."""
