"""The contract of plugins, for tracing."""

from __future__ import annotations

from plughost_testing import PluginContract
from plughost_tracing import TracingPlugin


class TestTracing(PluginContract):
    """Nothing listens at the endpoint: an export that fails is no business of the call."""

    plugin_class = TracingPlugin
    config = {"endpoint": "http://127.0.0.1:9/v1/traces", "timeout": 0.05}
    other_config = {"sample": 1.0, "batch": 16}
    invalid = {
        "sample": [1.5, -0.1],
        "endpoint": ["collector:4318", "http://me:pw@collector"],
        "batch": [0, 4096],
        "protocol": ["zipkin"],
    }
    free = ("service_name",)
    handles = ()
    fails = "open"
