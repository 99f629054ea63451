"""Upstream MCP servers for Plughost: stdio commands and HTTP URLs behind pooled, self-healing sessions.

[providers.files]
command = ["npx", "-y", "@modelcontextprotocol/server-filesystem", "."]

[providers.search]
url = "https://search.example/mcp"
"""

from __future__ import annotations

from plughost_upstream._config import UpstreamConfig, UpstreamTable
from plughost_upstream._plugin import UpstreamPlugin
from plughost_upstream._provider import UpstreamProvider

__all__ = ["UpstreamConfig", "UpstreamPlugin", "UpstreamProvider", "UpstreamTable"]
