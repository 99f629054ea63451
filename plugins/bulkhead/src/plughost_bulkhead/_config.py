"""The keys of `[plugins.bulkhead]`."""

from __future__ import annotations

from typing import Annotated, Literal

from plughost import Duration, GuardConfig, PluginConfig
from pydantic import Field

Dimension = Literal["provider", "tool", "tenant", "principal"]
Per = Annotated[tuple[Dimension, ...], Field(min_length=1)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LimitTable(PluginConfig):
    """One more limit: a call needs a slot of each."""

    limit: int = Field(gt=0)
    """Calls in flight at once."""
    per: Per
    """Whose calls are counted together: those with the same `provider`, `tool`, `tenant` and `principal`, of the ones
    named."""
    max_queue: int = Field(default=100, ge=0)
    """Calls that may wait for a slot."""


class BulkheadConfig(GuardConfig):
    """The keys of `[plugins.bulkhead]`."""

    limit: int = Field(default=32, gt=0)
    """Calls in flight at once, to each provider unless `per` says otherwise."""
    per: Per = ("provider",)
    """Whose calls are counted together: those with the same `provider`, `tool`, `tenant` and `principal`, of the ones
    named."""
    max_queue: int = Field(default=100, ge=0)
    """Calls that may wait for a slot; 0 refuses at once."""
    max_wait: Duration = 5.0
    """How long a call may wait, and never past its deadline; 0 refuses at once."""
    limits: tuple[LimitTable, ...] = ()
    """Further limits, each with `limit`, `per` and `max_queue`. A call takes a slot of all of them, or of none."""
    weights: dict[str, Weight] = Field(default_factory=dict)
    """Tenant → how many times the share of another tenant it gets; 1 for those not named."""

    @property
    def rules(self) -> tuple[LimitTable, ...]:
        """All limits."""
        return (LimitTable(limit=self.limit, per=self.per, max_queue=self.max_queue), *self.limits)
