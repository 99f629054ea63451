"""Events of the host, and of plugins that publish some: what `plughost_event` is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """The event vocabulary. Resilience plugins share the lower half, so that metrics and audit agree with them."""

    PLUGIN_REGISTERED = "plugin.registered"  #: an instance entered the running generation
    PLUGIN_REPLACED = "plugin.replaced"
    """An instance gave way to a new one of the same name."""
    PLUGIN_UNREGISTERED = "plugin.unregistered"  #: an instance left, its calls drained, its resources released
    PLUGIN_RECONFIGURED = "plugin.reconfigured"  #: an instance took a new config in place
    PLUGIN_FAILED = "plugin.failed"  #: an instance could not be loaded, registered or released
    PROVIDER_UP = "provider.up"  #: a provider serves (again)
    PROVIDER_DOWN = "provider.down"  #: a provider does not serve; its names left the catalog
    CATALOG_CHANGED = "catalog.changed"  #: the names that clients see changed
    CONFIG_RELOADED = "config.reloaded"  #: a changed configuration took effect
    CONFIG_REFUSED = "config.refused"  #: a changed configuration was refused; what ran before runs on
    HOST_STARTED = "host.started"  #: the host takes calls
    HOST_NOT_READY = "host.not_ready"  #: the host wants no more work, and still takes calls for a grace
    HOST_DRAINING = "host.draining"  #: the host takes no new calls and finishes those in flight
    HOST_DRAINED = "host.drained"  #: the drain is over; `finished` says whether every call was answered
    HOST_READY = "host.ready"  #: the host takes calls again, after a drain for maintenance
    HEALTH_CHANGED = "health.changed"  #: the host is healthy, degraded or unhealthy, and was not so before
    FAIL_OPEN = "guard.fail_open"  #: a guard failed and, as its `fail_mode` says, let the call pass
    WOULD_REFUSE = "guard.would_refuse"  #: a guard in `mode = "observe"` would have refused the call
    REFUSED = "call.refused"  #: a guard refused a call
    SCHEMA_REFUSED = "schema.refused"  #: a tool's schema cannot be used, so its calls are refused
    BREAKER_OPENED = "breaker.opened"  #: a circuit breaker refuses calls from now on
    BREAKER_HALF_OPENED = "breaker.half_opened"  #: a circuit breaker lets probes through
    BREAKER_RECOVERING = "breaker.recovering"  #: a circuit breaker lets more and more calls through at a time
    BREAKER_CLOSED = "breaker.closed"  #: a circuit breaker lets all calls through again
    RETRIED = "retry.retried"  #: a failed attempt is repeated
    BUDGET_EXHAUSTED = "retry.budget_exhausted"  #: a failed attempt is not repeated: too many were
    BACKEND_DOWN = "backend.down"  #: a plugin lost its shared store
    BACKEND_UP = "backend.up"  #: a plugin has its shared store back


@dataclass(frozen=True, slots=True)
class HostEvent:
    """Something that happened: its type (`EventType`, or a plugin's own string), its subject and details.

    `subject` names the plugin instance or provider; `details` is JSON.
    """

    type: str
    subject: str
    details: Mapping[str, Any] = field(default_factory=dict)
