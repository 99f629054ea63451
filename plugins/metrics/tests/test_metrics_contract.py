"""What every plugin owes, owed by this one."""

from __future__ import annotations

from plughost_metrics import MetricsPlugin
from plughost_testing import PluginContract


class TestMetrics(PluginContract):
    plugin_class = MetricsPlugin
    config = {"sample_layers": 2}
    other_config = {"buckets": [0.1, 1]}
    invalid = {
        "buckets": [[], [1, 1], [2, 1], [0, 1]],
        "path": ["metrics", "/"],
        "token": ["short"],
        "otlp": [{"endpoint": "localhost:4318"}, {"endpoint": "http://me:pw@collector"}, {}],
    }
    handles = ()
    fails = "open"
