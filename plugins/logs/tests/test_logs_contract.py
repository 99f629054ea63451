"""The contract of plugins, for logs."""

from __future__ import annotations

from plughost_logs import LogsPlugin
from plughost_testing import PluginContract


class TestLogs(PluginContract):
    """It writes to standard error beside the handlers of the tests."""

    plugin_class = LogsPlugin
    config = {"format": "ecs", "replace": False}
    other_config = {"sample": 0.5, "slow": "2s"}
    invalid = {"sample": [1.5, -0.1], "redact": [["("]], "level": ["LOUD"], "backups": [-1]}
    handles = ()
    fails = "open"
