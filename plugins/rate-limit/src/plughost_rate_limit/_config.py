"""The keys of `[plugins.rate-limit]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from plughost import GuardConfig
from plughost_redis import StoreURL
from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from plughost_rate_limit._algorithms import Algorithm, algorithm
from plughost_rate_limit._identity import Per
from plughost_rate_limit._rate import MOST, Rate

DEFAULT = "100/minute"
COUNTED = ("completion/complete", "prompts/get", "resources/read", "tools/call")


def _rate(value: Any) -> Rate:
    if isinstance(value, Rate):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no rate; write for example '100/minute'")  # noqa: TRY004 - what pydantic takes
    return Rate.parse(value)


RateField = Annotated[Rate, PlainValidator(_rate), PlainSerializer(str)]
RATE_SCHEMA = {"type": "string", "examples": [DEFAULT]}
LIMIT_SCHEMA = {"anyOf": [RATE_SCHEMA, {"type": "array", "items": RATE_SCHEMA, "minItems": 1, "maxItems": 8}]}


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class RateLimitConfig(GuardConfig):
    """The keys of `[plugins.rate-limit]`."""

    limit: Annotated[tuple[RateField, ...], BeforeValidator(_listed), WithJsonSchema(LIMIT_SCHEMA)] = Field(
        default=DEFAULT, validate_default=True, min_length=1, max_length=8
    )
    """Calls per `second`, `minute`, `hour`, `day` or duration: `"100/minute"`, `"20/10s"`. A list of several, such as
    `["10/second", "100/minute"]`, is taken all or none."""
    algorithm: Literal["sliding-window", "gcra", "fixed-window"] = "sliding-window"
    """How calls are counted."""
    burst: int | None = Field(default=None, gt=0, le=MOST)
    """`gcra`: how many calls may come at once; as many as the limit, if absent."""
    per: tuple[Per, ...] = ("principal",)
    """What has a bucket of its own: any of `tenant`, `principal`, `provider`, `tool`, or of their combinations; with
    none of them there is one bucket for everybody."""
    cost: Mapping[str, Annotated[int, Field(ge=0, le=MOST)]] = {}
    """Globs on the provider's own names of tools → what a call takes from the limit. The first that fits counts; 1 if
    none does, and 0 is free."""
    methods: frozenset[Annotated[str, Field(pattern="/")]] = Field(default=frozenset(COUNTED), min_length=1)
    """Methods that are counted."""
    advertise: bool = False
    """Tell clients what is left, in the `_meta` of each result."""
    url: StoreURL = StoreURL("memory://")
    """Where the counts are: in this process, or on a Redis or Valkey server (`redis://…`), where replicas agree."""

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """One for each limit."""
        return tuple(algorithm(self.algorithm, rate, self.burst) for rate in self.limit)

    @model_validator(mode="after")
    def _fits_together(self) -> RateLimitConfig:
        if self.burst is not None and self.algorithm != "gcra":
            raise ValueError(f"burst needs algorithm = 'gcra'; {self.algorithm!r} lets the whole limit come at once")
        if len({rate.period for rate in self.limit}) < len(self.limit):
            raise ValueError("limit names a period twice; keep the lower one")
        if len(set(self.per)) < len(self.per):
            raise ValueError(f"per names one of {', '.join(self.per)} twice")
        most = min(each.most for each in self.algorithms)
        for name, cost in self.cost.items():
            if cost > most:
                raise ValueError(f"cost of {name!r} is {cost}, and no more than {most} ever pass; lower it")
        return self
