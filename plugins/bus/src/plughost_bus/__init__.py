"""A bus for Plughost: changes and events across replicas over Redis, and out to webhooks."""

from __future__ import annotations

from plughost_bus._config import BusConfig, WebhookConfig
from plughost_bus._plugin import BusPlugin

__all__ = ["BusConfig", "BusPlugin", "WebhookConfig"]
