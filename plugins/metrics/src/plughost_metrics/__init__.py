"""Metrics for Plughost: a Prometheus endpoint and OTLP push, with a dashboard and alert rules."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["MetricsPlugin"]


class MetricsPlugin(MCPPlugin[PluginConfig]):
    """Metrics for Plughost: a Prometheus endpoint and OTLP push, with a dashboard and alert rules."""
