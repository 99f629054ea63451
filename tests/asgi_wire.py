"""Speaks HTTP to an ASGI application in this process: exact bytes in, exact bytes out, and a client that can vanish."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.types import ASGIApp, Message

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ENVELOPE: Mapping[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
Headers = Iterable[tuple[str, str]]


def request(method: str, params: Mapping[str, Any] | None = None, *, request_id: Any = 1) -> dict[str, Any]:
    """A request of 2026-07-28."""
    own = {key: value for key, value in (params or {}).items() if key != "_meta"}
    meta = {**ENVELOPE, **(params or {}).get("_meta", {})}
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**own, "_meta": meta}}


def headers_for(message: Mapping[str, Any]) -> dict[str, str]:
    """The headers that belong to a request of 2026-07-28."""
    method, params = message["method"], message["params"]
    headers = {"mcp-protocol-version": MODERN, "mcp-method": method, **COMMON}
    if isinstance(params.get(_NAMED.get(method, "")), str):
        headers["mcp-name"] = params[_NAMED[method]]
    return headers


COMMON = {
    "host": "127.0.0.1:8000",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}


@dataclass
class Reply:
    """What came back so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    @property
    def messages(self) -> list[Any]:
        """The JSON-RPC messages of the body, whether JSON or a stream."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return [json.loads(self.body)]
        data = [line[5:] for line in self.body.decode().splitlines() if line.startswith("data:")]
        return [json.loads(item) for item in data if item.strip()]

    @property
    def message(self) -> Any:
        """The last of them: the response."""
        return self.messages[-1]


class Exchange:
    """One HTTP request under way. `vanish()` is the client closing the connection."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.reply = Reply()
        self.chunks_read = 0
        self._chunks = list(chunks)
        self._gone = anyio.Event()
        self._changed = anyio.Event()
        self.begun = anyio.Event()
        self.done = anyio.Event()

    def vanish(self) -> None:
        self._gone.set()

    async def until(self, seen: bytes) -> None:
        """Wait until the body holds `seen`."""
        while seen not in self.reply.body:
            self._changed = anyio.Event()
            await self._changed.wait()

    async def receive(self) -> Message:
        if self._chunks:
            self.chunks_read += 1
            body = self._chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun.set()
            self.reply.status = message["status"]
            self.reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.reply.body += message.get("body", b"")
            self.reply.complete = not message.get("more_body", False)
        self._changed.set()


def scope_of(headers: Headers, *, method: str = "POST", path: str = "/mcp", **more: Any) -> dict[str, Any]:
    """An ASGI scope as a server makes it."""
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "headers": raw,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **more,
    }


@asynccontextmanager
async def exchange(
    app: ASGIApp,
    body: bytes | Iterable[bytes],
    headers: Mapping[str, str] | Headers,
    *,
    method: str = "POST",
    path: str = "/mcp",
    **scope: Any,
) -> AsyncIterator[Exchange]:
    """Start a request; it runs beside the block, and the client vanishes at its end."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    under_way = Exchange([body] if isinstance(body, bytes) else body)
    scope = scope_of(pairs, method=method, path=path, **scope)

    async def run() -> None:
        try:
            await app(scope, under_way.receive, under_way.send)
        finally:
            under_way.done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        yield under_way
        under_way.vanish()


async def fetch(
    app: ASGIApp,
    body: bytes | Iterable[bytes] = b"",
    headers: Mapping[str, str] | Headers = (),
    **options: Any,
) -> Reply:
    """One request and its whole reply."""
    with anyio.fail_after(10):
        async with exchange(app, body, headers, **options) as under_way:
            await under_way.done.wait()
    return under_way.reply


async def post(app: ASGIApp, message: Any, headers: Mapping[str, str | None] | None = None, **options: Any) -> Reply:
    """Post one message of 2026-07-28 with the headers that belong to it; `headers` change them, `None` omits one."""
    changed = {**headers_for(message), **(headers or {})}
    kept = {name: value for name, value in changed.items() if value is not None}
    return await fetch(app, json.dumps(message).encode(), kept, **options)


async def call(app: ASGIApp, name: str, /, **arguments: Any) -> Any:
    """Call a tool with 2026-07-28; the JSON-RPC response."""
    return (await post(app, request("tools/call", {"name": name, "arguments": arguments}))).message


class LegacySession:
    """A client session of 2025-11-25 over HTTP, message by message."""

    def __init__(self, app: ASGIApp, **scope: Any) -> None:
        self.app = app
        self.scope = scope
        self.session_id = ""

    @property
    def headers(self) -> dict[str, str]:
        own = {"mcp-session-id": self.session_id, "mcp-protocol-version": LEGACY} if self.session_id else {}
        return {**COMMON, **own}

    async def open(self) -> Reply:
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        reply = await self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        self.session_id = reply.headers["mcp-session-id"]
        await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return reply

    async def post(self, message: Any) -> Reply:
        return await fetch(self.app, json.dumps(message).encode(), self.headers, **self.scope)

    async def ask(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """A request; the JSON-RPC response."""
        return (await self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params or {})})).message
