"""Circuit breakers for Plughost: a provider or tool that fails too often, or is too slow, is left alone for a while.

    [plugins.circuit-breaker]
    minimum_calls = 10
    failure_rate = 0.5

`Breaker` and `Policy` are the algorithm alone, without a host: time is handed in.
"""

from __future__ import annotations

from plughost_circuit_breaker._breaker import Breaker, Mode, Permit, Policy, State
from plughost_circuit_breaker._config import CircuitBreakerConfig
from plughost_circuit_breaker._plugin import CircuitBreakerPlugin

__all__ = ["Breaker", "CircuitBreakerConfig", "CircuitBreakerPlugin", "Mode", "Permit", "Policy", "State"]
