"""Metrics: what every call takes, and all that plugins count, for Prometheus and OpenTelemetry collectors.

    [plugins.metrics]

    $ curl http://127.0.0.1:8000/metrics

Plugins count through the OpenTelemetry API and need nothing of this package.
"""

from __future__ import annotations

from plughost_metrics._config import MetricsConfig, OTLPConfig
from plughost_metrics._plugin import MetricsPlugin

__all__ = ["MetricsConfig", "MetricsPlugin", "OTLPConfig"]
