"""The keys of `[plugins.retry]`."""

from __future__ import annotations

from typing import Annotated

from plughost import Duration, PluginConfig
from pydantic import Field, model_validator

PositiveDuration = Annotated[Duration, Field(gt=0)]
Names = tuple[Annotated[str, Field(min_length=1)], ...]


class HedgeConfig(PluginConfig):
    """The keys of `[plugins.retry.hedge]`."""

    tools: Names = ()
    """Tools, as globs on the provider's own names, that may run twice at the same time. They are retried too."""
    percentile: Annotated[float, Field(gt=0, lt=100)] = 95.0
    """The second attempt starts when the first takes longer than this share of the tool's calls, in per cent."""
    min_samples: Annotated[int, Field(gt=0)] = 20
    """Calls of a tool that must have been seen before its percentile counts; until then nothing is hedged."""
    delay: PositiveDuration | None = None
    """A fixed delay before the second attempt, instead of the percentile."""


class RetryConfig(PluginConfig):
    """The keys of `[plugins.retry]`."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How often a call is tried at most, the first time included."""
    tools: Names = ()
    """Tools that may run twice: globs on the provider's own names. No other tool is retried."""
    reads: bool = True
    """Retry lists, `resources/read` and `prompts/get`."""
    trusted: Names = ()
    """Providers whose tools are retried if their annotations say `readOnlyHint` or `idempotentHint`."""
    tool_errors: bool = False
    """Retry also what a tool itself calls a failure (`isError: true`): many servers answer so when a tool raises, but
    also when the model passed a bad argument."""
    backoff: PositiveDuration = 0.1
    """The longest wait before the second attempt. It doubles with each further one; the wait is random up to it."""
    max_backoff: PositiveDuration = 5.0
    """The longest wait of all. A provider that asks for a longer one (`retryAfterMs`) is not retried."""
    budget: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Retries and hedges of a provider in any minute, as a share of its calls that may be retried …"""
    budget_floor: Annotated[int, Field(ge=0, le=10_000)] = 10
    """… and so many more."""
    hedge: HedgeConfig = HedgeConfig()
    """Second attempts beside a first one that takes long."""

    @model_validator(mode="after")
    def _in_order(self) -> RetryConfig:
        if self.backoff > self.max_backoff:
            raise ValueError(f"backoff is {self.backoff:g} s, longer than max_backoff, {self.max_backoff:g} s")
        return self
