"""Events of the host, and of plugins that publish some: what `plughost_event` is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """The event vocabulary. Resilience plugins share the lower half, so that metrics and audit agree with them."""

    PLUGIN_REGISTERED = "plugin.registered"
    PLUGIN_UNREGISTERED = "plugin.unregistered"
    PLUGIN_RECONFIGURED = "plugin.reconfigured"
    PLUGIN_FAILED = "plugin.failed"
    PROVIDER_UP = "provider.up"
    PROVIDER_DOWN = "provider.down"
    CATALOG_CHANGED = "catalog.changed"
    CONFIG_RELOADED = "config.reloaded"
    CONFIG_REFUSED = "config.refused"
    HOST_STARTED = "host.started"
    HOST_DRAINING = "host.draining"
    FAIL_OPEN = "guard.fail_open"
    WOULD_REFUSE = "guard.would_refuse"
    REFUSED = "call.refused"
    BREAKER_OPENED = "breaker.opened"
    BREAKER_HALF_OPENED = "breaker.half_opened"
    BREAKER_CLOSED = "breaker.closed"
    RETRIED = "retry.retried"
    BUDGET_EXHAUSTED = "retry.budget_exhausted"
    BACKEND_DOWN = "backend.down"
    BACKEND_UP = "backend.up"


@dataclass(frozen=True, slots=True)
class HostEvent:
    """Something that happened: its type (`EventType`, or a plugin's own string), its subject and details.

    `subject` names the plugin instance or provider; `details` is JSON.
    """

    type: str
    subject: str
    details: Mapping[str, Any] = field(default_factory=dict)
