"""Traces for Plughost: OpenTelemetry spans from client to upstream, sampled, exported over OTLP."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["TracingPlugin"]


class TracingPlugin(MCPPlugin[PluginConfig]):
    """Traces for Plughost: OpenTelemetry spans from client to upstream, sampled, exported over OTLP."""
