"""Calls as the host makes them, with a client's line that remembers what it heard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    ClientCapabilities,
    Implementation,
    InitializeRequestParams,
)
from plughost import Call, Principal

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ALL: Mapping[str, Any] = {"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}}
Answer = Callable[[str, Mapping[str, Any] | None], Awaitable[dict[str, Any]]]
_ids = count(1)


class Line:
    """A request's line to its client: a `DispatchContext`."""

    message_metadata = None

    def __init__(self, answer: Answer | None = None, token: object = None, delay: float = 0.0) -> None:
        self.request_id = next(_ids)
        self.can_send_request = answer is not None
        self.transport = TransportContext(kind="test", can_send_request=self.can_send_request)
        self.cancel_requested = anyio.Event()
        self.heard: list[tuple[str, Any]] = []
        self.asked: list[tuple[str, Any]] = []
        self.stirred = anyio.Event()
        self._answer = answer
        self._token = token
        self._delay = delay

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        await anyio.sleep(self._delay)
        self.heard.append((method, params))
        self.stirred.set()

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        body = {"progressToken": self._token, "progress": progress, "total": total}
        await self.notify("notifications/progress", body)

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        if self._answer is None:
            raise NoBackChannelError(method)
        self.asked.append((method, params))
        self.stirred.set()
        return await self._answer(method, params)

    @property
    def logged(self) -> list[Any]:
        return [params["data"] for method, params in self.heard if method == "notifications/message"]

    @property
    def steps(self) -> list[Any]:
        return [params["progress"] for method, params in self.heard if method == "notifications/progress"]


class Client:
    """One client: of revision 2025-11-25 with one connection, or of 2026-07-28 with one per request."""

    def __init__(
        self,
        version: str,
        capabilities: Mapping[str, Any] | None = None,
        *,
        answer: Answer | None = None,
        principal: Principal | None = None,
    ) -> None:
        self.version = version
        self.capabilities = dict(capabilities or {})
        self.principal = principal
        self.answer = answer
        self.delay = 0.0
        """How long this client takes to read a notification."""
        self.line = Line()
        self._connection: Connection | None = None
        if version < MODERN:
            info = Implementation(name="old client", version="3")
            can = ClientCapabilities.model_validate(self.capabilities)
            params = InitializeRequestParams(protocol_version=version, capabilities=can, client_info=info)
            self._connection = Connection(Line(), protocol_version=version, client_params=params)

    def call(self, method: str, params: Mapping[str, Any] | None = None, **meta: Any) -> Call:
        """A call of this client; its line is kept in `line`."""
        body = dict(params or {})
        if self.version >= MODERN:
            info = {"name": "new client", "version": "4"}
            meta = {
                PROTOCOL_VERSION_META_KEY: self.version,
                CLIENT_INFO_META_KEY: info,
                CLIENT_CAPABILITIES_META_KEY: self.capabilities,
                **meta,
            }
            connection = Connection.from_envelope(self.version, info, self.capabilities)
        else:
            assert self._connection is not None
            connection = self._connection
        if meta:
            body["_meta"] = meta
        answer = self.answer if self.version < MODERN else None
        self.line = Line(answer, meta.get("progressToken"), self.delay)
        call = Call(method, body, connection=connection, dispatch=self.line)
        call.principal = self.principal
        return call

    async def request(
        self, provider: Any, method: str, params: Mapping[str, Any] | None = None, **meta: Any
    ) -> dict[str, Any]:
        call = self.call(method, params, **meta)
        result: dict[str, Any] = await provider.request(call, call.params)
        return result

    async def tool(
        self, provider: Any, name: str, arguments: Mapping[str, Any] | None = None, **meta: Any
    ) -> dict[str, Any]:
        return await self.request(provider, "tools/call", {"name": name, "arguments": arguments or {}}, **meta)


def text_of(result: Mapping[str, Any]) -> str:
    """The text of a tool's result."""
    text: str = result["content"][0]["text"]
    return text
