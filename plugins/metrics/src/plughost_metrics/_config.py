"""The keys of `[plugins.metrics]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from plughost import Duration, PluginConfig
from pydantic import AfterValidator, Field, SecretStr

from plughost_metrics._instruments import SECONDS


def _rising(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if list(bounds) != sorted(set(bounds)) or bounds[0] <= 0:
        raise ValueError("bounds must be positive and rising, in seconds; for example [0.01, 0.1, 1, 10]")
    return bounds


def _collector(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a collector; write for example 'http://localhost:4318'")
    if parts.username is not None:
        raise ValueError("the URL holds credentials, which would be shown with it; put them in headers")
    return parts._replace(path="/v1/metrics").geturl() if parts.path in {"", "/"} else url


class OTLPConfig(PluginConfig):
    """The keys of `[plugins.metrics.otlp]`."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    """URL of the collector's OTLP/HTTP receiver; without a path, `/v1/metrics` is meant."""
    headers: Mapping[str, SecretStr] = {}
    """HTTP headers to send along, such as an authorization."""
    interval: Annotated[Duration, Field(ge=1)] = 60.0
    """Seconds between two pushes."""
    timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """How long a push, its retries included, may take."""


class MetricsConfig(PluginConfig):
    """The keys of `[plugins.metrics]`."""

    prometheus: bool = True
    """Whether Prometheus can scrape."""
    path: str = Field(default="/metrics", pattern=r"^/.")
    """Where it scrapes, on the main listener."""
    token: SecretStr | None = Field(default=None, min_length=8)
    """Bearer token that a scrape must carry; none is asked for if absent."""
    otlp: OTLPConfig | None = None
    """The collector to push to; nothing is pushed if absent."""
    buckets: Annotated[tuple[float, ...], Field(min_length=1, max_length=64), AfterValidator(_rising)] = SECONDS
    """Upper bounds of the buckets of call durations, in seconds."""
    max_series: int = Field(default=1000, ge=10)
    """Most series of one metric in this process; the rest is counted in one with the label `otel_metric_overflow`."""
    tenant: bool = False
    """Whether calls are told apart by tenant too, which multiplies the series."""
    exemplars: bool = True
    """Whether buckets keep the trace of a call, if the call is traced."""
    sample_layers: int = Field(default=64, ge=0)
    """Time each layer of the pipeline in one of so many calls; 0 times none."""
