"""Tenants for Plughost: each call belongs to one, and sees nothing of another.

[plugins.tenancy.tenants.acme]
providers = ["acme-*", "weather"]
"""

from __future__ import annotations

from plughost_tenancy._config import TenancyConfig, TenantConfig
from plughost_tenancy._plugin import TenancyPlugin

__all__ = ["TenancyConfig", "TenancyPlugin", "TenantConfig"]
