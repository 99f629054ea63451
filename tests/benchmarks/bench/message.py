"""The one request that every contestant answers: `tools/call echo`, 2026-07-28, stateless."""

from __future__ import annotations

import json
from typing import Any

from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

VERSION = "2026-07-28"
PATH = "/mcp"
TEXT = "hello"
TOKEN = "bench-token-0123456789"
"""Every request carries it, also to those that ask for none."""


def call(tool: str = "echo") -> dict[str, Any]:
    """The JSON-RPC request."""
    meta = {
        PROTOCOL_VERSION_META_KEY: VERSION,
        CLIENT_INFO_META_KEY: {"name": "bench", "version": "1"},
        CLIENT_CAPABILITIES_META_KEY: {},
    }
    params = {"name": tool, "arguments": {"text": TEXT}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def body(tool: str = "echo") -> bytes:
    """The request as it is posted."""
    return json.dumps(call(tool), separators=(",", ":")).encode()


def headers(tool: str = "echo") -> dict[str, str]:
    """The headers that go with `body(tool)`."""
    return {
        "host": "127.0.0.1:8000",
        "content-type": "application/json",
        "content-length": str(len(body(tool))),
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION,
        "mcp-method": "tools/call",
        "mcp-name": tool,
        "authorization": f"Bearer {TOKEN}",
    }


def check(reply: bytes, status: int = 200) -> None:
    """Refuse a reply that does not echo the text.

    Raises:
        RuntimeError: Shows the reply.
    """
    if status != 200 or TEXT.encode() not in reply or b'"isError":true' in reply or b'"error"' in reply:
        raise RuntimeError(f"expected the echo of {TEXT!r}, got {status} {reply[:500]!r}")
