"""The keys of `[plugins.events]`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from plughost import Duration, PluginConfig
from pydantic import Field, SecretStr, field_validator

from plughost_events._database import Database
from plughost_events._url import EventsURL

Aggregate = Literal["session", "principal", "tool", "tenant"]
LEAST_KEY = 32


class EventsConfig(PluginConfig):
    """Where events go, what of a call is in them, and how sure it must be that they are stored."""

    url: EventsURL = EventsURL("sqlite:///plughost-events.db")
    """`sqlite:///FILE` (relative to the config file), `postgresql://…` for several hosts, or `memory://` for trials."""
    aggregate: Aggregate = "principal"
    """What a stream of calls belongs to. Without a session, as in revision 2026-07-28, `session` is the principal."""
    durability: Literal["async", "sync"] = "async"
    """`sync`: a call is answered only after its event is on the disk. `async`: it waits for nothing."""
    fail_mode: Literal["closed", "open"] | None = None
    """What becomes of calls while events cannot be stored: refused, or let pass. `closed` by default with `sync`."""
    timeout: Duration = Field(default=5.0, gt=0)
    """How long a call waits for its event, or for a place in the queue, and a database may take to answer."""
    queue: int = Field(default=10_000, ge=10, le=1_000_000)
    """Events that may wait, and calls that may run, at once. Beyond it calls wait, and then `fail_mode` decides."""
    gather: Duration = Field(default=0.02, le=1)
    """How long events that nobody waits for are gathered, to be written at once."""
    arguments: tuple[str, ...] = ()
    """Names of tool arguments to record; no other is (G6)."""
    results: tuple[str, ...] = ()
    """Names of fields of structured results to record; no other is (G6)."""
    ignore: tuple[str, ...] = ("ping",)
    """Methods that are not recorded."""
    host_events: bool = True
    """Whether what happens to the host is recorded too: plugins, providers, configuration, breakers."""
    chain_key: SecretStr | None = None
    """Makes the hash chain an HMAC: who can write the database, but not read this key, cannot forge it. At least 32
    bytes, from the first event on."""
    keep: Duration | None = Field(default=None, gt=0)
    """How old events get before they are taken out; for ever, by default."""
    archive: Path | None = None
    """Folder (relative to the config file) that events go to when they are taken out; by default they are deleted."""
    poll: Duration = Field(default=1.0, gt=0)
    """How often subscribers look for what other hosts appended."""

    @field_validator("chain_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value().encode()) < LEAST_KEY:
            raise ValueError(f"chain_key needs at least {LEAST_KEY} bytes of secret randomness")
        return key

    @property
    def closed(self) -> bool:
        """Whether calls are refused while events cannot be stored."""
        return (self.fail_mode or ("closed" if self.durability == "sync" else "open")) == "closed"

    def database(self, folder: Path, *, create: bool = True) -> Database:
        """A connection to be."""
        key = self.chain_key.get_secret_value().encode() if self.chain_key else b""
        return self.url.database(folder, key, create=create)
