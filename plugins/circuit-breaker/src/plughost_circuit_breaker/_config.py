"""The keys of `[plugins.circuit-breaker]`."""

from __future__ import annotations

from typing import Literal

from plughost import Duration, GuardConfig
from plughost_redis import StoreURL
from pydantic import Field, model_validator

from plughost_circuit_breaker._breaker import Policy


class CircuitBreakerConfig(GuardConfig):
    """The keys of `[plugins.circuit-breaker]`. The defaults are for MCP's sparse traffic."""

    per: tuple[Literal["provider", "tool"], ...] = Field(default=("provider", "tool"), min_length=1)
    """What has a breaker of its own: each provider, each tool, or both."""
    window: Duration = Field(default=60.0, gt=0)
    """How far back calls count."""
    window_calls: int | None = Field(default=None, gt=0, le=10_000)
    """Count the last so many calls instead, however long ago they were."""
    minimum_calls: int = Field(default=10, gt=0)
    """Below so many calls in the window nothing is decided."""
    failure_rate: float = Field(default=0.5, gt=0, le=1)
    """Open when at least this share of the calls failed."""
    slow_rate: float = Field(default=0.8, gt=0, le=1)
    """Open when at least this share of the calls was slow."""
    slow_call: Duration | Literal["timeout", "off"] = "timeout"
    """A call is slow from here on; `"timeout"`: from 80 % of the time that the attempt had, by the timeout plugin."""
    tool_errors: bool = False
    """Count a tool's own failure (`isError`) too."""
    open: Duration = Field(default=10.0, gt=0)
    """How long a breaker stays open the first time; doubled each time that the probes fail."""
    open_max: Duration = Field(default=120.0, gt=0)
    """The longest wait; and how long a breaker must stay closed until it begins with `open` again."""
    jitter: float = Field(default=0.2, ge=0, lt=1)
    """Each wait is up to this share shorter or longer, so that replicas do not probe together."""
    probes: int = Field(default=3, gt=0, le=1000)
    """How many calls are let through when the wait is over; they decide."""
    probe_timeout: Duration = Field(default=60.0, gt=0)
    """A probe that takes longer has failed."""
    ramp: Duration = 10.0
    """How long recovery takes: it begins with `probes` calls at a time, one more for each good one. `0`: none."""
    max_breakers: int = Field(default=1000, ge=10)
    """How many breakers are kept at most."""
    url: StoreURL = StoreURL("memory://")
    """`memory://`: each host alone. `redis://`, `valkey://` …: replicas tell each other what opens and closes."""

    @model_validator(mode="after")
    def _fits(self) -> CircuitBreakerConfig:
        if self.open_max < self.open:
            raise ValueError(f"open_max = {self.open_max} is shorter than open = {self.open}; raise it")
        if self.window_calls is not None and self.window_calls < self.minimum_calls:
            raise ValueError(
                f"window_calls = {self.window_calls} never holds minimum_calls = {self.minimum_calls}; lower the latter"
            )
        return self

    @property
    def policy(self) -> Policy:
        """What the breakers go by."""
        return Policy(
            window=self.window,
            window_calls=self.window_calls,
            minimum_calls=self.minimum_calls,
            failure_rate=self.failure_rate,
            slow_rate=self.slow_rate,
            open=self.open,
            open_max=self.open_max,
            jitter=self.jitter,
            probes=self.probes,
            probe_timeout=self.probe_timeout,
            ramp=self.ramp,
        )
