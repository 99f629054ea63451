"""Calls made by hand, and the line back to a client that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.transport_context import TransportContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from plughost import Call, Principal

_ids = count(1)


class Line:
    """A request's line back to its client: keeps what is sent on it, and answers questions from `answers`.

    `answers` maps a method (`elicitation/create`, `sampling/createMessage`, `roots/list`) to the result that the client
    would give. Without it there is no way to ask, as in 2026-07-28.
    """

    message_metadata = None

    def __init__(self, answers: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.request_id: int | str | None = next(_ids)
        self.cancel_requested = anyio.Event()
        self.answers = dict(answers or {})
        self.sent: list[tuple[str, Mapping[str, Any]]] = []
        """Notifications and questions, in their order; progress as `notifications/progress`."""
        self.transport = TransportContext(kind="test", can_send_request=self.can_send_request)

    @property
    def can_send_request(self) -> bool:
        return bool(self.answers)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        del opts
        self.sent.append((method, params or {}))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        given = {"progress": progress, "total": total, "message": message}
        self.sent.append(("notifications/progress", {key: value for key, value in given.items() if value is not None}))

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        del opts
        if method not in self.answers:
            raise NoBackChannelError(method)
        self.sent.append((method, params or {}))
        return dict(self.answers[method])


def make_call(
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    protocol_version: str = LATEST_MODERN_VERSION,
    principal: Principal | None = None,
    line: Line | None = None,
) -> Call:
    """A call as a client would make it: for `host.dispatch`, or to hand to a middleware alone.

    `principal` is whom a plugin further out would have found to be the caller; what else it would have set, such as
    a deadline, is set on the call afterwards.
    """
    body = dict(params or {})
    if protocol_version in MODERN_PROTOCOL_VERSIONS:
        envelope = {PROTOCOL_VERSION_META_KEY: protocol_version, CLIENT_CAPABILITIES_META_KEY: {}}
        body["_meta"] = {**envelope, **body.get("_meta", {})}
    connection = Connection.from_envelope(protocol_version, None, {})
    call = Call(method, body, connection=connection, dispatch=line or Line())
    call.principal = principal
    return call
