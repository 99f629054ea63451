"""The keys of `[plugins.validation]`."""

from __future__ import annotations

from plughost import GuardConfig, PluginConfig, Size
from pydantic import Field

from plughost_validation._shape import Bounds
from plughost_validation._uris import URIPatternField


class Limits(PluginConfig):
    """How large something may be."""

    max_size: Size = Field(gt=0)
    """About the length of its JSON."""
    max_depth: int = Field(gt=0, le=200)
    """How deep objects and arrays may nest."""
    max_string: Size = Field(gt=0)
    """Characters in a string."""
    max_items: int = Field(gt=0)
    """Items in an array, properties in an object."""

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.max_size, self.max_depth, self.max_string, self.max_items)


class ArgumentLimits(Limits):
    """How large arguments may be."""

    max_size: Size = Field(default=2**20, gt=0)
    max_depth: int = Field(default=32, gt=0, le=200)
    max_string: Size = Field(default=2**18, gt=0)
    max_items: int = Field(default=10_000, gt=0)


class ResultLimits(Limits):
    """How large results may be."""

    max_size: Size = Field(default=16 * 2**20, gt=0)
    max_depth: int = Field(default=64, gt=0, le=200)
    max_string: Size = Field(default=16 * 2**20, gt=0)
    max_items: int = Field(default=100_000, gt=0)


class ValidationConfig(GuardConfig):
    """The keys of `[plugins.validation]`."""

    arguments: ArgumentLimits = ArgumentLimits()
    """Limits on the arguments of tools, prompts and completions."""
    results: ResultLimits = ResultLimits()
    """Limits on what providers answer."""
    check_results: bool = True
    """Hold `structuredContent` against the tool's `outputSchema`."""
    formats: bool = False
    """Hold strings against `format` too, which is a mere note in JSON Schema 2020-12."""
    allow_uris: tuple[URIPatternField, ...] | None = None
    """Resources that clients may name: `"note://*"`, `"https://*.example.com/docs/**"`. All, if absent."""
    allow_private_addresses: bool = False
    """Let clients name http URLs of private, local and metadata addresses that no provider lists."""
    max_schema: int = Field(default=10_000, gt=0, le=100_000)
    """JSON values in a schema. A tool with a larger one is refused."""
    max_steps: int = Field(default=1_000_000, gt=0)
    """What one validation may cost at most, in steps of up to 100 ns, by an upper bound worked out before."""
