"""Host events as CloudEvents 1.0 in their JSON format: what a webhook gets."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from plughost import HostEvent

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TYPE_PREFIX = "plughost."
"""Of the types of CloudEvents."""


def cloud_event(event: HostEvent, *, event_id: str, source: str, seconds: float) -> str:
    """The body. `source` is a URI reference that tells host and replica, `seconds` the time since the epoch."""
    time = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": TYPE_PREFIX + event.type,
            "subject": event.subject,
            "time": time,
            "datacontenttype": "application/json",
            "data": dict(event.details),
        },
        default=str,
    )
