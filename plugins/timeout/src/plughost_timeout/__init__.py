"""Time limits for Plughost: per attempt and in all, and progress extends neither."""

from __future__ import annotations

from plughost_timeout._limits import Limits, LimitTable
from plughost_timeout._plugin import TimeoutConfig, TimeoutPlugin
from plughost_timeout._timer import Timer

__all__ = ["LimitTable", "Limits", "TimeoutConfig", "TimeoutPlugin", "Timer"]
