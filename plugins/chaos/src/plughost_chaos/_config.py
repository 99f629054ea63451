"""The keys of `[plugins.chaos]`, and the rules of the fault engine that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal

from plughost import Duration, PluginConfig
from plughost_testing.faults import Disconnect, Error, Fault, Hang, Latency, Malformed, Rule, SlowStream
from pydantic import Field, field_validator, model_validator

KINDS: Mapping[str, type[Fault]] = {
    "error": Error,
    "latency": Latency,
    "hang": Hang,
    "disconnect": Disconnect,
    "malformed": Malformed,
    "slow-stream": SlowStream,
}
KIND_OF = {fault: kind for kind, fault in KINDS.items()}


class FaultTable(PluginConfig):
    """One fault, and the calls that it happens to: all that fit, unless `rate` or `on` narrow it."""

    kind: Literal["error", "latency", "hang", "disconnect", "malformed", "slow-stream"]
    """What happens."""
    target: str = "*"
    """Glob on the provider's own name of the tool or prompt, or on the resource's URI."""
    methods: frozenset[Annotated[str, Field(pattern="/")]] | None = None
    """Methods it is about; without them, all but lists."""
    rate: float = Field(default=1.0, ge=0, le=1)
    """Share of the calls that fit, from 0 to 1."""
    on: frozenset[Annotated[int, Field(gt=0)]] | None = None
    """Numbers of the calls that fit, from 1."""

    seconds: Duration = 0.0
    """`latency`: how much later the call reaches the provider. `slow-stream`: how much later each notification and the
    answer come. `disconnect`: how long the provider stays away."""
    jitter: Duration = 0.0
    """`latency`: up to how much more, at random."""
    message: str = Error().message
    """`error`: its message."""
    code: int = Error().code
    """`error`: its JSON-RPC code."""
    data: Any = None
    """`error`: its data."""
    result: dict[str, Any] = Field(default_factory=lambda: dict(Malformed().result))
    """`malformed`: the result instead of the provider's."""

    @model_validator(mode="after")
    def _only_what_the_kind_takes(self) -> FaultTable:
        own = {field.name: field for field in fields(KINDS[self.kind])}
        for key in sorted(self._given - own.keys()):
            raise ValueError(f"kind = {self.kind!r} takes no {key!r}; its own keys: {', '.join(own) or 'none'}")
        for key, field in own.items():
            if key not in self._given and field.default is field.default_factory is MISSING:
                raise ValueError(f"kind = {self.kind!r} needs {key!r}")
        return self

    @property
    def _given(self) -> set[str]:
        """The keys of the kind that were given; the engine knows the defaults of the others."""
        return self.model_fields_set - {"kind", "target", "methods", "rate", "on"}

    def rule(self) -> Rule:
        """The same in the words of the engine."""
        fault = KINDS[self.kind](**{key: getattr(self, key) for key in self._given})
        return Rule(fault, rate=self.rate, on=self.on, target=self.target, methods=self.methods)


class ChaosConfig(PluginConfig):
    """The keys of `[plugins.chaos]`."""

    i_know: bool = Field(default=False, strict=True, validate_default=True)
    """Must be `true`: whoever enables the plugin knows that calls will fail."""
    seed: int = 0
    """What `rate` and `jitter` are drawn from: the same seed and the same calls give the same faults."""
    faults: tuple[FaultTable, ...] = ()
    """What happens to which calls, one table each."""

    @field_validator("i_know")
    @classmethod
    def _knows(cls, value: bool) -> bool:  # noqa: FBT001 - the value of the field, as pydantic hands it over
        if not value:
            raise ValueError("this plugin makes calls fail on purpose; set i_know = true where that is wanted")
        return value
