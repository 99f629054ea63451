"""Authentication for Plughost: OAuth 2.1 resource server with JWT, introspection and API keys."""

from __future__ import annotations

from plughost import MCPPlugin, PluginConfig

__all__ = ["AuthPlugin"]


class AuthPlugin(MCPPlugin[PluginConfig]):
    """Authentication for Plughost: OAuth 2.1 resource server with JWT, introspection and API keys."""
