"""The keys of `[plugins.tracing]`."""

from __future__ import annotations

from typing import Literal

from plughost import Duration, PluginConfig
from pydantic import Field, SecretStr, model_validator

HTTP = "http://127.0.0.1:4318/v1/traces"
GRPC = "http://127.0.0.1:4317"


class TracingConfig(PluginConfig):
    """Where spans go, and of which calls."""

    protocol: Literal["http", "grpc", "console"] = "http"
    """How spans are exported: OTLP over HTTP or gRPC (`pip install 'plughost-tracing[grpc]'`), or to standard error."""
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^/@]+(/|$)")
    """URL of the collector, without credentials, which belong in `headers`; if absent, of one on this machine."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Headers of every export, credentials above all."""
    timeout: Duration = Field(default=10.0, gt=0)
    """Most that one export may take, and the last one at the end."""
    interval: Duration = Field(default=5.0, gt=0)
    """How often spans are exported; sooner when `batch` are waiting."""
    batch: int = Field(default=512, ge=1)
    """Most spans in one export."""
    queue: int = Field(default=2048, ge=1)
    """Most spans that wait for export; what comes on top is dropped, never waited for."""
    sample: float = Field(default=0.05, ge=0, le=1)
    """Share of the traces that begin here which are recorded."""
    follow: bool = True
    """Whether a caller that sends a trace context decides for its trace; otherwise `sample` does for all."""
    errors: bool = True
    """Export the server span of a call that failed also where its trace is not sampled."""
    layers: Duration = 0.001
    """A layer of the pipeline that takes this long by itself gets a span, in traces that are sampled."""
    resource_uris: bool = False
    """Put the URI of a resource on its spans; it may name persons or hold secrets."""
    messages: bool = False
    """Export what errors say, in spans of libraries and servers in process; it may hold arguments and secrets."""
    service_name: str = Field(default="", max_length=255)
    """`service.name` of the spans; the host's name if empty."""
    attributes: dict[str, str] = Field(default_factory=dict)
    """Further attributes of the resource, such as `deployment.environment.name`."""

    @model_validator(mode="after")
    def _batch_fits(self) -> TracingConfig:
        if self.batch > self.queue:
            raise ValueError(f"batch = {self.batch} is more than queue = {self.queue}; a batch has to fit into it")
        return self

    @property
    def url(self) -> str:
        """Where spans are sent."""
        return self.endpoint or (GRPC if self.protocol == "grpc" else HTTP)
