"""Authentication for Plughost: an OAuth 2.1 resource server, API keys, and the login of this process over stdio.

    [plugins.auth]
    resource = "https://mcp.example.com/mcp"
    issuers.main.issuer = "https://login.example.com"

A request reaches the MCP endpoint only with a token that proves who sends it (`_gate.py`); who that is stands in
`call.principal` from ADMIT on (`_plugin.py`). Signatures are PyJWT's. Its `PyJWKClient` is not used: it blocks the
event loop while it fetches (`_keys.py`). Names are imported when they are first used, so that `plughost auth` imports
neither `mcp` nor the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plughost_auth._config import AuthConfig, Identity, Introspection, IssuerConfig, KeyConfig, TokenConfig
    from plughost_auth._plugin import AuthPlugin

__all__ = ["AuthConfig", "AuthPlugin", "Identity", "Introspection", "IssuerConfig", "KeyConfig", "TokenConfig"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'plughost_auth' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - for the first use of a name alone

    module = "_plugin" if name == "AuthPlugin" else "_config"
    value = getattr(import_module(f"plughost_auth.{module}"), name)
    globals()[name] = value
    return value
