"""Event sourcing for Plughost: an append-only, hash-chained store of calls, refusals and changes.

from plughost_events import EventStore, NewEvent

class OrdersPlugin(MCPPlugin):
    requires = (EventStore,)

    async def register(self, host):
        store = host.get(EventStore)
        await store.append("order:7", [NewEvent("order.placed", {"total": 12})], expected_version=0)

Without a host: `plughost events`, in `cli.py`.
"""

from __future__ import annotations

from plughost_events._chain import Anchor, Fault
from plughost_events._config import EventsConfig
from plughost_events._errors import StoreError, StoreFormatError, StoreUnavailable, VersionConflict
from plughost_events._event import Event, NewEvent, Receipt
from plughost_events._plugin import EventsPlugin
from plughost_events._projection import Projection
from plughost_events._reduce import Reducer, State, activity, fold, load_reducer, schema_of
from plughost_events._store import EventStore, Snapshot, Verified
from plughost_events._upcast import Upcasters
from plughost_events._url import EventsURL

__all__ = [
    "Anchor",
    "Event",
    "EventStore",
    "EventsConfig",
    "EventsPlugin",
    "EventsURL",
    "Fault",
    "NewEvent",
    "Projection",
    "Receipt",
    "Reducer",
    "Snapshot",
    "State",
    "StoreError",
    "StoreFormatError",
    "StoreUnavailable",
    "Upcasters",
    "Verified",
    "VersionConflict",
    "activity",
    "fold",
    "load_reducer",
    "schema_of",
]
