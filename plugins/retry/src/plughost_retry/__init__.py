"""Retries for Plughost: backoff with jitter, a retry budget, and hedged calls, for what may run twice."""

from __future__ import annotations

from plughost_retry._backoff import Backoff
from plughost_retry._budget import Budget
from plughost_retry._config import HedgeConfig, RetryConfig
from plughost_retry._hedge import hedged
from plughost_retry._latencies import Latencies
from plughost_retry._plugin import RetryPlugin

__all__ = ["Backoff", "Budget", "HedgeConfig", "Latencies", "RetryConfig", "RetryPlugin", "hedged"]
