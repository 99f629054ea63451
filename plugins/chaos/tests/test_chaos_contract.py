"""What every plugin owes, owed by this one: while each call is slow, and while none is harmed."""

from __future__ import annotations

from plughost_chaos import ChaosPlugin
from plughost_testing import PluginContract


class TestChaos(PluginContract):
    plugin_class = ChaosPlugin
    config = {
        "i_know": True,
        "faults": [
            {"kind": "latency", "seconds": 1, "jitter": 5, "methods": ["tools/call"]},
            {"kind": "slow-stream", "seconds": 1, "methods": ["tools/call"]},
        ],
    }
    invalid = {"i_know": [False, "true", 1]}
    other_config = {"i_know": True, "seed": 1}


class TestWithoutFaults(PluginContract):
    plugin_class = ChaosPlugin
    config = {"i_know": True}
    other_config = {"i_know": True, "seed": 1}
    handles = ()
