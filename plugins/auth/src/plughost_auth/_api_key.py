"""What an API key looks like: apart, since the command that makes one imports neither `mcp` nor the plugin."""

from __future__ import annotations

PREFIX = "plh_"
"""By which scanners for leaked secrets can know a key."""
