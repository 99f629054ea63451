"""Events as others read them: JSON Lines, and CloudEvents."""

from __future__ import annotations

from typing import Any

from plughost_events._event import Event, rfc3339

TYPE_PREFIX = "plughost."
"""Of the types of CloudEvents."""


def as_json(event: Event) -> dict[str, Any]:
    """One line. `method` is that of the call, and `null` where the event is about no call."""
    return {
        "position": event.position,
        "id": event.id,
        "stream": event.stream,
        "version": event.version,
        "time": rfc3339(event.time),
        "type": event.type,
        "method": (event.data or {}).get("method"),
        "schema": event.schema,
        "data": event.data,
        "hash": event.hash,
    }


def as_cloud_event(event: Event, source: str) -> dict[str, Any]:
    """A CloudEvent 1.0 in its JSON format. `sequence` is that of the extension of this name, `method` an own one."""
    method = (event.data or {}).get("method")
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": TYPE_PREFIX + event.type,
        "subject": event.stream,
        "time": rfc3339(event.time),
        "datacontenttype": "application/json",
        "sequence": f"{event.position:020}",
        **({"method": method} if isinstance(method, str) else {}),
        "data": event.data,
    }
