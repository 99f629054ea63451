"""Writes a line for each provider that goes down or comes back."""

import logging

from plughost import EventType, HostEvent, MCPPlugin, hookimpl

logger = logging.getLogger("watch")


class Watch(MCPPlugin):
    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        if event.type in {EventType.PROVIDER_UP, EventType.PROVIDER_DOWN}:
            logger.warning("%s: %s", event.subject, event.type)
