"""Where a call's tenant comes from, and what tenants there are."""

from __future__ import annotations

import re
from typing import Annotated, Any

from plughost import GuardConfig, PluginConfig
from pydantic import BeforeValidator, Field, model_validator
from pydantic.networks import IPvAnyNetwork

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
"""What a tenant may be called: it stands in keys, labels, paths and headers."""

Globs = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class TenantConfig(PluginConfig):
    """A `[plugins.tenancy.tenants.NAME]` table."""

    providers: Globs | None = None
    """Globs of the providers that this tenant sees; if absent, what tenants without a list see."""


class TenancyConfig(GuardConfig):
    """The `[plugins.tenancy]` table. Empty, a tenant comes from the caller's token alone."""

    header: Annotated[str, BeforeValidator(_lower), Field(pattern=r"^[a-z0-9-]+$")] | None = None
    """A header that names the tenant, for callers whose token names none; believed from `trusted_proxies` only."""
    path: str | None = Field(default=None, pattern=r"^(/[A-Za-z0-9_~-]+)+$")
    """A prefix of paths that name the tenant: with `/t`, the endpoint is at `/t/TENANT/mcp` too."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of the proxies that have checked what header or path name."""
    memberships: str | None = Field(default=None, min_length=1)
    """A claim with a list of tenants among which its owner chooses, by header or path."""
    providers: Globs | None = None
    """Globs of the providers that tenants without a list see; if absent, none once a tenant has a list, or else all."""
    tenants: dict[str, TenantConfig] = Field(default_factory=dict)
    """The tenants; others are refused. Without any, every tenant is let in."""

    @model_validator(mode="after")
    def _safe(self) -> TenancyConfig:
        for name in self.tenants:
            if not TENANT.match(name):
                raise ValueError(f"tenants has {name!r}; {RULE}")
        for network in self.trusted_proxies:
            if network.prefixlen == 0:
                raise ValueError(f"trusted_proxies has {network}, which trusts every client to name any tenant")
        if self.memberships is not None and not (self.header or self.path):
            raise ValueError("memberships needs header or path, by which to choose")
        return self


RULE = "a tenant's name is 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or digit"
